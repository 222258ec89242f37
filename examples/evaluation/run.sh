#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A model on the test problems of GSM8K (1319) and on MATH-500, under self-attention and under windows put on without
# training: greedy, and SAMPLES of each problem at T=0.7. One GPU of 80 GB; without a GPU it runs on the CPU (set LIMIT).
#   bash examples/evaluation/run.sh [more overrides for every run]
# A run whose output exists is skipped, so the same command goes on where it stopped. Other settings: another WORK.
# Environment: MODEL    folder or hub name            DATA  folder with GSM8K's test.jsonl and math500.jsonl (empty: hub)
#              WORK     everything is written here    WINDOWS   after self-attention, in this order
#              SAMPLES, RESPONSE, PROMPT (tokens, at most)      LIMIT  problems of each set (empty: all)
#              JOBS     runs side by side             TIMEOUT  of one run             PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:-}
WORK=${WORK:-$here/work}
WINDOWS=${WINDOWS:-128 256 512 64}
SAMPLES=${SAMPLES:-8}
RESPONSE=${RESPONSE:-1024}
PROMPT=${PROMPT:-1024}
LIMIT=${LIMIT:-}
JOBS=${JOBS:-2}
TIMEOUT=${TIMEOUT:-1h}
py=${PYTHON:-python3}

mkdir -p "$WORK"/{data,runs,logs,results/greedy,results/sampled}
WORK=$(cd "$WORK" && pwd)
if [ -d "$MODEL" ]; then MODEL=$(cd "$MODEL" && pwd); fi
if [ -n "$DATA" ]; then DATA=$(cd "$DATA" && pwd); fi
cd "$WORK"  # Hydra writes its outputs/ here
export TOKENIZERS_PARALLELISM=true RAY_prestart_worker_first_driver=0 RAY_enable_worker_prestart=0
trap 'trap - INT; kill 0' INT  # bash hides Ctrl-C from what runs beside it

say() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }

if nvidia-smi > /dev/null 2>&1; then  # as proven in examples/gsm8k/run.sh; two runs take about half of 80 GB
  preset=eval
  machine=(
    actor_rollout_ref.model.use_remove_padding=true
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.fsdp_config.use_torch_compile=false
    actor_rollout_ref.rollout.tensor_model_parallel_size=1
    actor_rollout_ref.rollout.max_num_seqs=1024 actor_rollout_ref.rollout.max_num_batched_tokens=16384
    actor_rollout_ref.rollout.gpu_memory_utilization=0.3  # free at start; what is used is the next but one
    "actor_rollout_ref.rollout.cudagraph_capture_sizes=[1,4,16,64,128,256,384,512,768,1024]"
    ++actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=10737418240
    "++actor_rollout_ref.rollout.engine_kwargs.vllm.compilation_config={mode:0,cudagraph_mode:FULL_DECODE_ONLY}"
    actor_rollout_ref.rollout.agent.num_workers=8 reward.num_workers=4  # 14,552 samples keep four busy for minutes
    data.dataloader_num_workers=2
    trainer.n_gpus_per_node=1 trainer.nnodes=1 transfer_queue.backend.SimpleStorage.num_data_storage_units=1
    "ray_kwargs.ray_init.num_cpus=$(nproc)" +ray_kwargs.ray_init.include_dashboard=false
  )
else
  preset='[eval,cpu_rl]'
  machine=(
    actor_rollout_ref.rollout.max_num_seqs=32
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=1024  # holds the embeddings in fp32
  )
fi

# prepare NAME FILE: the test problems (the first LIMIT of them) -> data/NAME.parquet
prepare() {
  if [ -s "data/$1.parquet" ]; then return; fi
  "$py" -m swarr_verl prepare "$1" --split test --out "data/$1" ${DATA:+--from "$DATA/$2"}
  "$py" -c 'import sys, pyarrow.parquet as pq; _, source, target, *n = sys.argv
pq.write_table(pq.read_table(source)[: int(n[0]) if n else None], target)' \
    "data/$1/rl_test.parquet" "data/$1.part" ${LIMIT:+"$LIMIT"}
  mv "data/$1.part" "data/$1.parquet"
}

# evaluate KIND/NAME WINDOW [overrides] -> runs/KIND/NAME/0.jsonl, verl's dump; results/KIND/NAME.jsonl.gz, what is kept
evaluate() {
  local name=$1 window=$2 log=logs/${1/\//_}.log start=$SECONDS
  shift 2
  if [ -s "results/$name.jsonl.gz" ]; then return; fi
  if [ ! -d "runs/$name" ]; then
    say "$name"
    rm -rf "runs/$name.part"
    mkdir -p "runs/$name.part"
    timeout --foreground -k 60 "$TIMEOUT" "$py" -m verl.trainer.main_ppo "+swarr=$preset" swarr.window="$window" \
      data.val_files="[$WORK/data/gsm8k.parquet,$WORK/data/math500.parquet]" \
      data.max_prompt_length="$PROMPT" data.max_response_length="$RESPONSE" \
      actor_rollout_ref.model.path="$MODEL" actor_rollout_ref.rollout.max_model_len=$((PROMPT + RESPONSE)) \
      trainer.logger=[console] trainer.project_name=evaluation trainer.experiment_name="$name" \
      trainer.default_local_dir="$WORK/runs/$name.part" hydra.run.dir="$WORK/runs/$name.part/hydra" \
      "${machine[@]}" "$@" > "$log" 2>&1 \
      || { say "$name: failed, see $log"; tail -n 3 "$log" | cut -c1-300; return 1; }
    mv "runs/$name.part" "runs/$name"
  fi
  "$py" "$here/pack.py" "runs/$name/0.jsonl" "results/$name.jsonl.gz"
  say "$name: done, $((SECONDS - start)) s"
}

beside() {
  while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
  "$@" &
}

# each KIND [overrides]: self-attention (a window that no sequence reaches), then every window
each() {
  local kind=$1 window
  shift
  beside evaluate "$kind/SA" $((PROMPT + RESPONSE)) "$@"
  for window in $WINDOWS; do beside evaluate "$kind/W$window" "$window" "$@"; done
}

# report KIND: tables and figure of the runs that are there, each compared with self-attention -> results/KIND
report() {
  local name runs=()
  for name in SA $(printf 'W%s\n' $WINDOWS | sort -rV); do
    if [ -s "results/$1/$name.jsonl.gz" ]; then runs+=("results/$1/$name.jsonl.gz"); else missing+=" $1/$name"; fi
  done
  if [ ${#runs[@]} = 0 ]; then return; fi
  "$py" -m swarr_verl report "${runs[@]}" --out "report/$1"
  cp "report/$1"/{report.md,report.json,accuracy.png} "results/$1/"
}

if [ ! -s doctor.txt ]; then
  "$py" -m swarr_verl doctor | tee "doctor.$$"
  mv "doctor.$$" doctor.txt
fi
prepare gsm8k test.jsonl
prepare math500 math500.jsonl

val=actor_rollout_ref.rollout.val_kwargs
each greedy "$@"
each sampled $val.n="$SAMPLES" $val.do_sample=true $val.temperature=0.7 "$@"
wait
missing=
report greedy
report sampled
say "finished; missing:${missing:- none} (logs: $WORK/logs)"
[ -z "$missing" ]
