#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `python -m swarr_verl bench` of whole shapes, random weights, the largest batch that fits; some of the windows without
# this package's plugin, and with vLLM's other model runner; what the GPU does in a decode step, kernel by kernel; and
# what its matrix products take by the number of sequences. A GPU.
#   bash examples/rollout/bench.sh
# A bench that is done is skipped; one that is not has its rows so far in results/NAME.part. Environment:
#   WORK     everything is written here   SHAPES  1.5b 7b        WINDOWS, DEPTHS  tokens, the deepest last
#   STOCK    shapes without the plugin, to be compared with the rows above   SOME_WINDOWS, SOME_DEPTHS  of these and:
#   RUNNER2  shapes with vLLM's second model runner: less Python a step, and a leaner sampler (vLLM's default for Qwen3
#            and Llama in 0.24, not for Qwen2)
#   MOST     sequences of a step, where so many fit (bench's default)
#   PROFILES of SHAPE:WINDOW:DEPTH, window 0 for full attention
#   PRODUCTS shapes                       PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORK=${WORK:-$here/work/bench}
SHAPES=${SHAPES-1.5b 7b}
WINDOWS=${WINDOWS:-4096 2048 1024}
DEPTHS=${DEPTHS:-4096 8192 16384 32768 65536 131072}
STOCK=${STOCK-1.5b 7b}
SOME_WINDOWS=${SOME_WINDOWS:-4096 2048}
SOME_DEPTHS=${SOME_DEPTHS:-8192 32768}
PROFILES=${PROFILES-7b:4096:32768 7b:2048:32768 1.5b:0:32768 1.5b:2048:32768}
PRODUCTS=${PRODUCTS-1.5b 7b}
RUNNER2=${RUNNER2-1.5b 7b}
py=${PYTHON:-python3}
# Graphs of decode steps alone, and no compilation: as in the experiment's rollouts, and it starts in half the time. The
# same length for all, as vLLM's tables are as wide.
engine='{"compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}, "max_model_len": '${DEPTHS##* }${MOST:+', "max_num_seqs": '$MOST}'}'

missing=  # what failed does not keep the rest from running

# bench NAME SHAPE WINDOWS DEPTHS [VARIABLE=VALUE ...] -> results/NAME
bench() {
  local out=$WORK/results/$1
  if [ -e "$out" ]; then return; fi
  # shellcheck disable=SC2086
  env "${@:5}" "$py" -m swarr_verl bench "$2" --window $3 --depth $4 --out "$out.part" --engine "$engine" &&
    mv "$out.part" "$out" || missing+=" $1"
}

# profile SHAPE WINDOW DEPTH -> results/profile_SHAPE_WINDOW.md; its trace stays in WORK
profile() {
  local name=profile_$1_$2
  if [ -e "$WORK/results/$name.md" ]; then return; fi
  "$py" "$here/profile_decode.py" "$1" "$2" "$3" "$WORK/$name" &&
    cp "$WORK/$name/kernels.md" "$WORK/results/$name.md" || missing+=" $name"
}

# products SHAPE -> results/products_SHAPE.json
products() {
  local out=$WORK/results/products_$1.json
  if [ -e "$out" ]; then return; fi
  "$py" "$here/products.py" "$1" --out "$out" || missing+=" products_$1"
}

mkdir -p "$WORK/results"
for shape in $SHAPES; do bench "$shape" "$shape" "$WINDOWS" "$DEPTHS"; done
for shape in $STOCK; do  # Python is not timed again
  bench "stock_$shape" "$shape" "$SOME_WINDOWS" "$SOME_DEPTHS --host 0" VLLM_PLUGINS=none
done
for shape in $RUNNER2; do
  bench "runner2_$shape" "$shape" "$SOME_WINDOWS" "$SOME_DEPTHS" VLLM_USE_V2_MODEL_RUNNER=1
done
for shape in $PRODUCTS; do products "$shape"; done
for one in $PROFILES; do IFS=: read -r shape window depth <<< "$one"; profile "$shape" "$window" "$depth"; done
echo "finished; missing:${missing:- none}"
[ -z "$missing" ]
