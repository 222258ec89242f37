#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Does what a window cannot serve spoil a conversion? SFT on the half of GSM8K's rationales (by tokens) that needs least of
# what is older than the window, on the half that needs most, and on a random half; under the window, and under full
# attention; greedy accuracy on GSM8K's test set. GPUs of 80 GB; without one, on the CPU.
#   bash examples/mismatch/halves.sh [more overrides for every SFT]
# A stage whose output exists is skipped. Reads the stages of examples/gsm8k.
# Environment: MODEL    converted, and reads         DATA    folder with GSM8K's train.jsonl, test.jsonl
#              WORK     everything is written here   WINDOW  tokens           STRIDE  of `mismatch`
#              HALVES   low, high, random            SEEDS   of each half     RESPONSE  tokens, at most
#              EPOCHS, BATCH, TOKENS (of SFT)        LIMIT   problems of each file (empty: all)
#              JOBS     stages side by side on a GPU TIMEOUT of a stage       PYTHON
set -euo pipefail
own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
here=$own/../gsm8k
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:?a folder with train.jsonl, test.jsonl}
WORK=${WORK:-$own/work/halves}
WINDOW=${WINDOW:-96}
STRIDE=${STRIDE:-16}
HALVES=${HALVES:-low high random}
SEEDS=${SEEDS:-1 2}
RESPONSE=${RESPONSE:-512}
TOKENS=${TOKENS:-4096}
LIMIT=${LIMIT:-}
JOBS=${JOBS:-3}
py=${PYTHON:-python3}
. "$here/stages.sh"
. "$own/need.sh"
trap 'trap - INT; kill 0' INT  # bash hides Ctrl-C from what runs beside it
overrides=("$@")

# cell HALF SEED ATTENTION -> results/eval_HALF_SEED_ATTENTION
cell() {
  local name=$1_$2_$3 window=$WINDOW
  if [ -s "results/eval_$name.json" ]; then return; fi
  if [ "$3" = SA ]; then window=SA; fi
  sft "$name" "$WORK/data/$1_$2/sft.parquet" "$window" "${overrides[@]}"
  evaluate "$name" "$name/global_step_$(newest "$name")/huggingface" --max-prompt-tokens 1024 --max-tokens "$RESPONSE"
  rm -r "${WORK:?}/$name"
}

prepare
measure
for seed in $SEEDS; do
  for name in $HALVES; do
    half "$name" "$seed"
    for attention in SA SWA; do beside cell "$name" "$seed" "$attention"; done
  done
done
wait
"$py" "$own/halves.py" results
missing=
for seed in $SEEDS; do
  for name in $HALVES; do
    for attention in SA SWA; do
      if [ ! -s "results/eval_${name}_${seed}_$attention.json" ]; then missing+=" ${name}_${seed}_$attention"; fi
    done
  done
done
say "finished; missing:${missing:- none} (logs: $WORK/logs)"
[ -z "$missing" ]
