#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Where does SFT leave a gap between full attention and a window? Every SFT source x (full attention, every window):
# SFT, greedy accuracy on GSM8K's test set and MATH-500, then the weights go. GPUs of 80 GB; without one, on the CPU.
#   bash examples/gsm8k/scan.sh [more overrides for every SFT]
# A stage whose output exists is skipped, so the same command goes on where it stopped.
# Environment: MODEL    folder or hub name           DATA  folder with GSM8K's train.jsonl, test.jsonl, MATH's
#              WORK     everything is written here         math_train.jsonl (of MATH-lighteval), math500.jsonl
#              SOURCES  of SFT, in this order        WINDOWS   after full attention, in this order
#              SAMPLES, KEEP    answers drawn a problem, right ones kept at most       RESPONSE  tokens, at most
#              EPOCHS, BATCH, TOKENS (of a micro-batch)      LIMIT  problems of each file (empty: all)
#              JOBS     stages side by side on a GPU TIMEOUT   of a stage         PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:?a folder with train.jsonl, test.jsonl, math_train.jsonl, math500.jsonl}
WORK=${WORK:-$here/work/scan}
SOURCES=${SOURCES:-rationales selfdistill selfdistill_math}
WINDOWS=${WINDOWS:-16 32 48 64 96}
SAMPLES=${SAMPLES:-4}
KEEP=${KEEP:-2}
RESPONSE=${RESPONSE:-512}
TOKENS=${TOKENS:-4096}  # 8192: an SFT takes up to 28 GB (results/sft.csv), too much for three
LIMIT=${LIMIT:-}
JOBS=${JOBS:-3}
TIMEOUT=${TIMEOUT:-15m}
py=${PYTHON:-python3}
tests=(data/gsm8k/rl_test.parquet data/math500/rl_test.parquet)
. "$here/stages.sh"
trap 'trap - INT; kill 0' INT  # bash hides Ctrl-C from what runs beside it

# take FILE [PATTERN]: the first LIMIT lines (that match) -> data/FILE
take() { grep -E ${LIMIT:+-m "$LIMIT"} "${2:-^}" "$DATA/$1" > "data/$1"; }

# prepare: MATH-500 first: MATH's problems are compared with it
prepare() {
  if [ -s data/math/rl_train.parquet ]; then return; fi  # the last that is written
  mkdir -p data
  take train.jsonl
  take test.jsonl
  take math500.jsonl
  take math_train.jsonl '"level": *"Level [1-4]"'
  "$py" -m swarr_verl prepare gsm8k --out data/gsm8k --from data/train.jsonl data/test.jsonl
  "$py" -m swarr_verl prepare math500 --out data/math500 --from data/math500.jsonl
  "$py" -m swarr_verl prepare math --out data/math --split train --from data/math_train.jsonl \
    --check-overlap data/math500/rl_test.parquet --drop-overlap ngram
}

# cell SOURCE WINDOW FILES: SFT of FILES under WINDOW (SA: none), and its evaluation
cell() {
  local name=$1_$2
  if [ -s "results/eval_$name.json" ]; then return; fi
  sft "$name" "$3" "${2#W}" "${overrides[@]}"
  evaluate "$name" "$name/global_step_$(newest "$name")/huggingface" "${budget[@]}"
  rm -r "${WORK:?}/$name"
}

# row SOURCE FILE ...: SOURCE under full attention and every window, as soon as its files are there
row() {
  local source=$1 file files
  shift
  for file in "$@"; do
    until [ -s "$file" ] || [ -z "$(jobs -rp)" ]; do wait -n || true; done
    if [ ! -s "$file" ]; then say "$source: no $file"; return; fi
  done
  files=$(IFS=,; echo "[${*/#/$WORK/}]")
  for window in SA $(printf 'W%s ' $WINDOWS); do beside cell "$source" "$window" "$files"; done
}

# grid: cut short, it leaves whole rows; what is drawn is drawn beside the row before
grid() {
  beside evaluate base_SA "$MODEL" "${budget[@]}"
  case $SOURCES in *selfdistill*) beside draw gsm8k ;; esac
  for source in $SOURCES; do
    case $source in
      rationales) row "$source" data/gsm8k/sft.parquet ;;
      selfdistill) row "$source" results/drawn_gsm8k.parquet ;;
      selfdistill_math) beside draw math; row "$source" results/drawn_{gsm8k,math}.parquet ;;
      *) say "no such source: $source" ;;
    esac
  done
  wait
}

overrides=("$@")
budget=(--max-prompt-tokens 1024 --max-tokens "$RESPONSE")  # the longest prompt of MATH-500 has 835
doctor
prepare
grid
JOBS=$(((JOBS + 1) / 2)) grid  # once more for what failed: beside as many, memory may not have been enough
"$py" "$here/scan.py" results
missing=
for source in $SOURCES; do
  for window in SA $(printf 'W%s ' $WINDOWS); do
    if [ ! -s "results/eval_${source}_$window.json" ]; then missing+=" ${source}_$window"; fi
  done
done
say "finished; missing:${missing:- none} (logs: $WORK/logs)"
[ -z "$missing" ]
