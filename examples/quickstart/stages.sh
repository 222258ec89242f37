# SPDX-License-Identifier: Apache-2.0
# The stages of the toy, for run.sh and examples/mismatch/toy.sh; they source this with WORK set. Then all is in $WORK.
quickstart=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SEED=${SEED:-0}
WINDOW=14
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
cd "$WORK" # Hydra writes its outputs/ here
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1

# stage NAME COMMAND...: run, log to NAME.log, note the seconds in NAME.seconds; show the loss or reward as it goes
stage() {
  local name=$1 start=$SECONDS
  shift
  if [ -e "$name.seconds" ]; then return; fi # whole: written last
  printf '[%(%H:%M:%S)T] %s\n' -1 "$name"
  VERL_FILE_LOGGER_PATH=$WORK/$name.jsonl "$@" 2>&1 | tee "$name.log" | sed -u -n -E \
    -e 's/.*step:([0-9]*[05]0) .*train\/loss:([-0-9.]{1,6}).*/  step \1  loss \2/p' \
    -e 's/.*step:([0-9]+) .*critic\/score\/mean:([-0-9.]{1,6}).*/  step \1  reward \2/p' \
    -e 's/.*(\[swarr\].*)/  \1/p' -e '/Error/p' || { tail -n 30 "$name.log"; exit 1; }
  echo $((SECONDS - start)) > "$name.seconds"
}

sft() { # sft NAME MODEL STEPS [overrides] -> NAME/global_step_STEPS/huggingface
  local name=$1 model=$2 steps=$3
  shift 3
  stage "$name" torchrun --standalone --nproc_per_node=1 -m verl.trainer.sft_trainer \
    model.path="$model" data.train_files="$WORK/$name.parquet" data.max_length=96 \
    data.train_batch_size=32 data.use_dynamic_bsz=true data.max_token_len_per_gpu=4096 \
    optim.lr=3e-3 optim.betas=[0.9,0.95] optim.lr_scheduler_type=cosine optim.lr_warmup_steps=50 optim.min_lr_ratio=0.1 \
    trainer.total_training_steps="$steps" trainer.total_epochs=1 trainer.seed="$SEED" \
    trainer.logger=[console,file] trainer.project_name=quickstart trainer.experiment_name="$name" \
    trainer.default_local_dir="$WORK/$name" checkpoint.save_contents=[hf_model] "$@"
}

engine='{"dtype": "float32", "enforce_eager": true, "block_size": 16, "kv_cache_memory_bytes": 536870912}'
evaluate() { # evaluate NAME MODEL [options]: one sample at temperature 1 for each of 512 held-out problems
  local name=$1 model=$2
  shift 2
  stage "eval_$name" python "$quickstart/../gsm8k/evaluate.py" "$model" rl_test.parquet "eval_$name" --temperature 1 \
    --max-prompt-tokens 10 --max-tokens 60 --engine "$engine" "$@"
}

sa=$WORK/pretrain/global_step_600/huggingface
converted=$WORK/sft/global_step_300/huggingface
rl() { # rl NAME PRESETS MODEL [overrides] -> NAME/global_step_24/actor/huggingface
  local name=$1 presets=$2 model=$3
  shift 3
  stage "$name" python -m verl.trainer.main_ppo "+swarr=[$presets]" swarr.window="$WINDOW" \
    actor_rollout_ref.model.path="$model" \
    data.train_files="$WORK/rl_train.parquet" data.val_files="$WORK/rl_test.parquet" data.seed="$SEED" \
    data.train_batch_size=16 data.max_prompt_length=10 data.max_response_length=60 \
    actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.max_model_len=96 actor_rollout_ref.rollout.max_num_seqs=128 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=128 \
    actor_rollout_ref.actor.ppo_mini_batch_size=16 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=128 \
    actor_rollout_ref.actor.optim.lr=3e-4 actor_rollout_ref.actor.checkpoint.save_contents=[hf_model] \
    swarr.max_probs_diff_mean=1e-4 \
    trainer.total_training_steps=24 trainer.total_epochs=1 trainer.val_before_train=false trainer.save_freq=24 \
    trainer.logger=[console,file] trainer.project_name=quickstart trainer.experiment_name="$name" \
    trainer.default_local_dir="$WORK/$name" "$@"
}
