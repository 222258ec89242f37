#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Real model, real data, one GPU of 80 GB: SFT conversion and GRPO on GSM8K under one window, with evaluations.
#   bash examples/gsm8k/run.sh [more overrides for GRPO]
# A stage whose output exists is skipped, so the same command goes on where it stopped.
# Environment: MODEL  folder or hub name            DATA     folder with train.jsonl and test.jsonl (empty: the hub)
#              WORK   everything is written here    CONTROL  1: also SFT without a window, for comparison
#              WINDOW, STEPS (of GRPO), LIMIT (time limit of GRPO), PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:-}
WORK=${WORK:-$here/work}
WINDOW=${WINDOW:-64}
STEPS=${STEPS:-60}
CONTROL=${CONTROL:-1}
LIMIT=${LIMIT:-4h}
py=${PYTHON:-python3}

tests=(rl_test.parquet)
. "$here/stages.sh"

# grpo MODEL [overrides] -> grpo/global_step_*/actor/huggingface
grpo() {
  local model=$1
  shift
  if [ "$(newest grpo)" -ge "$STEPS" ]; then return; fi
  say "grpo, $STEPS steps"
  VERL_FILE_LOGGER_PATH=$WORK/results/grpo.jsonl timeout --foreground -k 60 "$LIMIT" "$py" -m verl.trainer.main_ppo \
    +swarr=grpo swarr.window="$WINDOW" \
    data.train_files="$WORK/rl_train.parquet" data.val_files="$WORK/rl_test.parquet" data.seed=1 \
    data.train_batch_size=128 data.max_prompt_length=512 data.max_response_length=512 data.dataloader_num_workers=2 \
    actor_rollout_ref.model.path="$model" \
    actor_rollout_ref.model.use_remove_padding=true actor_rollout_ref.model.enable_gradient_checkpointing=false \
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.fsdp_config.use_torch_compile=false \
    actor_rollout_ref.actor.optim.lr=2e-6 actor_rollout_ref.actor.ppo_mini_batch_size=32 \
    actor_rollout_ref.actor.use_dynamic_bsz=true actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384 \
    actor_rollout_ref.actor.checkpoint.save_contents=[hf_model] \
    actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.max_model_len=1024 actor_rollout_ref.rollout.max_num_seqs=1024 \
    actor_rollout_ref.rollout.max_num_batched_tokens=16384 actor_rollout_ref.rollout.gpu_memory_utilization=0.3 \
    actor_rollout_ref.rollout.cudagraph_capture_sizes=[1,4,16,64,128,256,384,512,768,1024] \
    "++actor_rollout_ref.rollout.engine_kwargs.vllm.compilation_config={mode:0,cudagraph_mode:FULL_DECODE_ONLY}" \
    ++actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=10737418240 \
    actor_rollout_ref.rollout.agent.num_workers=4 reward.num_workers=8 \
    trainer.n_gpus_per_node=1 trainer.nnodes=1 trainer.resume_mode=disable \
    trainer.total_training_steps="$STEPS" trainer.total_epochs=1000 trainer.test_freq=10 trainer.save_freq=20 \
    trainer.logger=[console,file] trainer.project_name=gsm8k trainer.experiment_name=grpo \
    trainer.default_local_dir="$WORK/grpo" \
    ray_kwargs.ray_init.num_cpus="$(nproc)" +ray_kwargs.ray_init.include_dashboard=false \
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1 "$@" > logs/grpo.log 2>&1
  say "grpo: done"
}

control() {
  sft sft_sa "$WORK/sft.parquet" SA
  evaluate sft_sa "sft_sa/global_step_$(newest sft_sa)/huggingface"
}

jobs=() failed=0
beside() {  # run a stage beside the others
  "$@" &
  jobs+=($!)
}
join() {
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  jobs=()
}

doctor
if [ ! -s rl_train.parquet ]; then  # the last that is written
  "$py" -m swarr_verl prepare gsm8k --out . ${DATA:+--from "$DATA/train.jsonl" "$DATA/test.jsonl"}
fi

beside evaluate sa "$MODEL"
beside evaluate naive "$MODEL" --window "$WINDOW"
join  # two SFTs fill 80 GB: an engine that starts beside them finds no memory
if [ "$CONTROL" = 1 ]; then beside control; fi
sft sft "$WORK/sft.parquet" "$WINDOW"
converted=$WORK/sft/global_step_$(newest sft)/huggingface
beside evaluate sft "$converted"
grpo "$converted" "$@"
evaluate rl "grpo/global_step_$(newest grpo)/actor/huggingface"
join
"$py" "$here/plot.py" results
say "finished, failed stages: $failed (see $WORK/logs)"
exit "$failed"
