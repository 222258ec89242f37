#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The measurements of examples/rollout and examples/mismatch that do not train a contest, on as many GPUs as there are. On
# a machine without a network, from the checkout's root, after `lease.sh install` of examples/gsm8k:
#   start          each in the background, in a folder of its name beside LEASE; those that share a GPU one after the other
#   poll SECONDS   wait for all, at most so long; print where they stand; collect
# Environment: RUNS  of bench_SHAPE, step_SA, step_SWA, mismatch (DONE of stage.sh had eval_*_in_*.jsonl.gz), halves
#              SHAPES, STOCK  of bench.sh: empty for a bench_SHAPE without its table, or without stock vLLM
#              LEASE of that install
set -euo pipefail
lease=examples/gsm8k/lease.sh
installed=${LEASE:-/tmp/gsm8k}
beside=$(dirname "$installed")
read -ra runs <<< "${RUNS:-bench_7b bench_1.5b step_SA step_SWA mismatch halves}"
export MODEL=$installed/model DATA=$installed/data

begin() {
  local shape=${1#bench_}
  case $1 in
    bench_*)
      export EXAMPLE=rollout SCRIPT=bench.sh DEPTHS="8192 32768 131072" PRODUCTS=$shape RUNNER2=$shape
      export SHAPES=${SHAPES-$shape} STOCK=${STOCK-$shape}
      export PROFILES="$shape:2048:32768 $shape:1024:32768 $shape:4096:32768"
      bash $lease start
      ;;
    step_*)
      export EXAMPLE=. SCRIPT=rollout/step.sh ATTENTIONS=${1#step_} STEPS=2 PROMPTS=8 KV_GIB=32 \
        CASES="1.5b:16384 model:8192 1.5b:8192 model:16384"
      bash $lease start
      ;;
    mismatch) EXAMPLE=. SCRIPT=mismatch/run.sh RESULTS=$installed/work/results bash $lease start --reach 64 ;;
    halves) EXAMPLE=. SCRIPT=mismatch/halves.sh JOBS=4 bash $lease start ;;
    *) echo "no such run: $1"; return 1 ;;
  esac
}

start() {
  local name gpu index=0 gpus before=()
  gpus=$(nvidia-smi -L | wc -l)
  for name in "${runs[@]}"; do
    gpu=$((index++ % gpus))
    (export LEASE=$beside/$name AFTER=${before[gpu]:-} CUDA_VISIBLE_DEVICES=$gpu; begin "$name")
    before[gpu]="${before[gpu]:-} $beside/$name"
  done
}

poll() { ALL=${runs[*]/#/$beside/} bash $lease poll "$@"; }

"$@"
