#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `python -m swarr_verl bench` of whole shapes, random weights, the largest batch that fits; then vLLM without this
# package's plugin under one of the windows. A GPU.
#   bash examples/rollout/bench.sh
# A bench that is done is skipped; one that is not has its rows so far in results/NAME.part. Environment:
#   WORK     everything is written here   SHAPES  1.5b 7b        WINDOWS, DEPTHS  tokens
#   STOCK    shapes without the plugin    STOCK_WINDOW, STOCK_DEPTH               PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORK=${WORK:-$here/work/bench}
SHAPES=${SHAPES-1.5b 7b}
WINDOWS=${WINDOWS:-4096 2048 1024}
DEPTHS=${DEPTHS:-4096 8192 16384 32768 65536 131072}
STOCK=${STOCK-1.5b}
STOCK_WINDOW=${STOCK_WINDOW:-4096}
STOCK_DEPTH=${STOCK_DEPTH:-32768}
py=${PYTHON:-python3}
# Graphs of decode steps alone, and no compilation: as in the experiment's rollouts, and it starts in half the time.
engine='{"compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}}'

# bench NAME SHAPE WINDOWS DEPTHS [VARIABLE=VALUE ...] -> results/NAME
bench() {
  local out=$WORK/results/$1
  if [ -e "$out" ]; then return; fi
  # shellcheck disable=SC2086
  env "${@:5}" "$py" -m swarr_verl bench "$2" --window $3 --depth $4 --out "$out.part" --engine "$engine"
  mv "$out.part" "$out"
}

for shape in $SHAPES; do bench "$shape" "$shape" "$WINDOWS" "$DEPTHS"; done
for shape in $STOCK; do bench "stock_$shape" "$shape" "$STOCK_WINDOW" "$STOCK_DEPTH" VLLM_PLUGINS=none; done
