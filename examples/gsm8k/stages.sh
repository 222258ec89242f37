# SPDX-License-Identifier: Apache-2.0
# What the examples' scripts share; they source this with MODEL, DATA, WORK, py and here set. Then all is in $WORK.
mkdir -p "$WORK/results" "$WORK/logs"
WORK=$(cd "$WORK" && pwd)
if [ -d "$MODEL" ]; then MODEL=$(cd "$MODEL" && pwd); fi
if [ -n "$DATA" ]; then DATA=$(cd "$DATA" && pwd); fi
cd "$WORK"  # Hydra writes its outputs/ here
export TOKENIZERS_PARALLELISM=true RAY_prestart_worker_first_driver=0 RAY_enable_worker_prestart=0

if nvidia-smi > /dev/null 2>&1; then
  plain='' windowed=sft adapt=${ALGORITHM:-grpo} distill=distill  # presets
  sft_machine=(model.use_remove_padding=true model.enable_gradient_checkpointing=false
    engine.strategy=fsdp2 engine.use_torch_compile=false data.num_workers=4)
  sizes=[1,4,16,64,128,256,384,512,768,1024]  # of the CUDA graphs, sequences
  # of vLLM beside verl; 12 KiB of cache a token of the 0.5B model
  engine='{"max_num_seqs": 1024, "kv_cache_memory_bytes": 5368709120, "compilation_config": {"mode": 0,
    "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": '$sizes'}}'
  rl_machine=(
    actor_rollout_ref.model.use_remove_padding=true actor_rollout_ref.model.enable_gradient_checkpointing=false
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.fsdp_config.use_torch_compile=false
    actor_rollout_ref.actor.entropy_from_logits_with_chunking=true  # 34 GB reserved at RL_TOKENS=16384, 41 without
    actor_rollout_ref.rollout.tensor_model_parallel_size=1
    actor_rollout_ref.rollout.max_num_batched_tokens=16384
    actor_rollout_ref.rollout.gpu_memory_utilization=0.15  # free at start; what is used is the KV cache
    "actor_rollout_ref.rollout.cudagraph_capture_sizes=$sizes"
    "++actor_rollout_ref.rollout.engine_kwargs.vllm.compilation_config={mode:0,cudagraph_mode:FULL_DECODE_ONLY}"
    ++actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=$((${KV_GIB:-10} << 30))
    actor_rollout_ref.rollout.agent.num_workers=4 reward.num_workers=8
    data.dataloader_num_workers=2
    trainer.n_gpus_per_node=1 trainer.nnodes=1
    "ray_kwargs.ray_init.num_cpus=$(nproc)" +ray_kwargs.ray_init.include_dashboard=false
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1
  )
else
  plain=cpu_sft windowed=[sft,cpu_sft] adapt=[${ALGORITHM:-grpo},cpu_rl] distill=[distill,cpu_distill]
  sft_machine=()
  engine='{"dtype": "float32", "enforce_eager": true, "block_size": 16, "kv_cache_memory_bytes": 1073741824}'
  rl_machine=()
fi

say() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }

# bounded NAME COMMAND ...: its output to logs/NAME.log, for TIMEOUT at most; a failure is said
bounded() {
  local log=logs/$1.log
  timeout --foreground -k 60 "${TIMEOUT:-4h}" "${@:2}" >> "$log" 2>&1 && return
  say "$1: failed, see $WORK/$log: $(tail -n 1 "$log" | cut -c1-300)"
  return 1
}

# beside STAGE ...: in the background, as soon as a GPU has fewer than JOBS; GPUs get stages in turn
all=$(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null | paste -sd,) || all=0
IFS=, read -ra gpus <<< "${CUDA_VISIBLE_DEVICES:-$all}"
slots=()  # process of each
beside() {
  local slot running
  while :; do
    running=" $(jobs -rp | paste -sd' ') "
    for ((slot = 0; slot < JOBS * ${#gpus[@]}; slot++)); do
      [[ $running == *" ${slots[slot]:-none} "* ]] || break 2
    done
    wait -n || true
  done
  CUDA_VISIBLE_DEVICES=${gpus[slot % ${#gpus[@]}]} "$@" &
  slots[slot]=$!
}

# newest RUN: the step of RUN's newest checkpoint, 0 without one
newest() { cat "$WORK/$1/latest_checkpointed_iteration.txt" 2>/dev/null || echo 0; }

# draw NAME: MODEL's own right answers to data/NAME, KEEP of SAMPLES a problem -> results/drawn_NAME.parquet
draw() {
  if [ -s "results/drawn_$1.parquet" ]; then return; fi
  say "draw $1"
  bounded "draw_$1" "$py" -m swarr_verl prepare selfdistill --from "data/$1/rl_train.parquet" --model "$MODEL" \
    --out "data/drawn_$1" --samples "$SAMPLES" --keep "$KEEP" --prompt-tokens 480 --response-tokens "$RESPONSE" \
    --batch 2500 --gpu-memory-utilization 0.2 --engine "$engine"
  say "draw $1: $(grep ' problems, ' "logs/draw_$1.log" | tail -n 1)"
  cp "data/drawn_$1/sft.parquet" results/drawn.part
  mv results/drawn.part "results/drawn_$1.parquet"  # comes back with the results: a scan goes on with the same data
}

# evaluate NAME MODEL [options]: greedy accuracy on the sets of $tests -> results/eval_NAME.json, .jsonl.gz
evaluate() {
  local name=$1 model=$2
  shift 2
  if [ -s "results/eval_$name.json" ]; then return; fi
  say "eval $name"
  bounded "eval_$name" "$py" "$here/evaluate.py" "$model" "${tests[@]}" "results/eval_$name" \
    --engine "$engine" "$@"
  say "eval $name: $(grep '^{' "logs/eval_$name.log" | tail -n 1)"
}

# sft NAME DATA WINDOW [overrides]: EPOCHS of DATA under WINDOW (SA: none) -> NAME/global_step_*/huggingface
sft() {
  local name=$1 data=$2 window=$3 preset=$plain
  shift 3
  if [ "$(newest "$name")" -gt 0 ]; then return; fi
  say "sft $name"
  if [ "$window" != SA ]; then
    preset=$windowed
    set -- swarr.window="$window" "$@"
  fi
  bounded "$name" env VERL_FILE_LOGGER_PATH="$WORK/results/$name.jsonl" \
    "$py" -m torch.distributed.run --standalone --nproc_per_node=1 \
    -m verl.trainer.sft_trainer ${preset:+"+swarr=$preset"} \
    model.path="$MODEL" "${sft_machine[@]}" \
    data.train_files="$data" data.max_length=1024 \
    data.train_batch_size="${BATCH:-64}" data.use_dynamic_bsz=true data.max_token_len_per_gpu="${TOKENS:-8192}" \
    optim.lr=2e-5 optim.lr_scheduler_type=cosine optim.lr_warmup_steps_ratio=0.05 \
    checkpoint.save_contents=[hf_model] \
    trainer.total_epochs="${EPOCHS:-2}" trainer.n_gpus_per_node=1 trainer.resume_mode=disable \
    trainer.logger=[console,file] trainer.project_name=gsm8k trainer.experiment_name="$name" \
    trainer.default_local_dir="$WORK/$name" "$@"
  say "sft $name: done"
}

# rl NAME MODEL WINDOW SEED TRAIN TEST [overrides]: STEPS of ALGORITHM, 8 answers to each of PROMPTS problems a step, in
# micro-batches of RL_TOKENS, with KV_GIB of cache -> NAME/global_step_*/actor/huggingface
rl() {
  local name=$1 model=$2 window=$3 seed=$4 train=$5 test=$6 prompts=${PROMPTS:-128} tokens=${RESPONSE:-512}
  shift 6
  if [ "$(newest "$name")" -ge "$STEPS" ]; then return; fi
  say "$name: $STEPS steps"
  bounded "$name" env VERL_FILE_LOGGER_PATH="$WORK/results/$name.jsonl" \
    "$py" -m verl.trainer.main_ppo "+swarr=$adapt" swarr.window="$window" \
    data.train_files="$train" data.val_files="$test" data.seed="$seed" \
    data.train_batch_size="$prompts" data.max_prompt_length=512 data.max_response_length="$tokens" \
    actor_rollout_ref.model.path="$model" actor_rollout_ref.actor.data_loader_seed="$seed" \
    actor_rollout_ref.actor.optim.lr=2e-6 actor_rollout_ref.actor.ppo_mini_batch_size=$(((prompts + 3) / 4)) \
    actor_rollout_ref.actor.use_dynamic_bsz=true \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu="${RL_TOKENS:-16384}" \
    actor_rollout_ref.actor.checkpoint.save_contents=[hf_model] \
    actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.seed="$seed" \
    actor_rollout_ref.rollout.max_model_len=$((512 + tokens)) actor_rollout_ref.rollout.max_num_seqs=$((8 * prompts)) \
    trainer.total_training_steps="$STEPS" trainer.total_epochs=1000 trainer.test_freq=10 trainer.save_freq=20 \
    trainer.resume_mode=disable \
    trainer.logger=[console,file] trainer.project_name=gsm8k trainer.experiment_name="$name" \
    trainer.default_local_dir="$WORK/$name" hydra.run.dir="$WORK/$name/hydra" \
    "${rl_machine[@]}" "$@"
  say "$name: done"
}

doctor() {
  if [ -s doctor.txt ]; then return; fi
  "$py" -m swarr_verl doctor | tee "doctor.$$"
  mv "doctor.$$" doctor.txt
}
