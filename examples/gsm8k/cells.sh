#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Cells of the experiment: SFT under an attention, RL from there under the same one, and every state's answers to GSM8K's
# test problems and MATH-500: greedy, and SAMPLES a problem at T=0.7. GPUs of 80 GB; without one, on the CPU.
#   CELLS="SA_1 SWA_1" bash examples/gsm8k/cells.sh [more overrides for RL]
# SA_2 is full attention, seed 2 of RL. Full attention is a window that no sequence reaches: the same code and settings.
# A policy is evaluated under both. A stage whose output exists is skipped; the trained weights go when a cell is done.
# Environment: MODEL    folder or hub name           DATA  folder with GSM8K's train.jsonl, test.jsonl, math500.jsonl
#              WORK     everything is written here   CELLS     side by side
#              WINDOW   of SWA                       SOURCE    SFT data: rationales, or parquet files: a.parquet,b.parquet
#              CURRICULUM   wider windows that SWA's SFT goes through first, EPOCHS each, e.g. "512 256" (empty: none)
#              STEPS, PROMPTS (a step), ALGORITHM (grpo, dapo), RL_TOKENS (of a micro-batch), KV_GIB
#              RESPONSE tokens, at most              SAMPLES
#              EPOCHS, BATCH, TOKENS (of SFT)        LIMIT     problems of each file (empty: all)
#              JOBS     stages side by side on a GPU TIMEOUT   of a stage         PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:?a folder with train.jsonl, test.jsonl, math500.jsonl}
WORK=${WORK:-$here/work/cells}
CELLS=${CELLS:-SA_1 SWA_1}
WINDOW=${WINDOW:-96}
CURRICULUM=${CURRICULUM:-}
SOURCE=${SOURCE:-rationales}
STEPS=${STEPS:-100}
PROMPTS=${PROMPTS:-64}
RL_TOKENS=${RL_TOKENS:-8192}  # a trainer reserves 21 GB at 8192, so that two cells share 80 GB; 34 at 16384
KV_GIB=${KV_GIB:-5}
RESPONSE=${RESPONSE:-512}
SAMPLES=${SAMPLES:-8}
LIMIT=${LIMIT:-}
JOBS=${JOBS:-4}
py=${PYTHON:-python3}
if [ "$SOURCE" != rationales ]; then SOURCE=$(realpath ${SOURCE//,/ } | paste -sd,); fi
tests=(data/gsm8k/rl_test.parquet data/math500/rl_test.parquet)
. "$here/stages.sh"
trap 'trap - INT; kill 0' INT  # bash hides Ctrl-C from what runs beside it
overrides=("$@")

prepare() {
  if [ -s data/gsm8k/rl_train.parquet ]; then return; fi  # the last that is written
  mkdir -p data
  for file in train test math500; do head -n "${LIMIT:--0}" "$DATA/$file.jsonl" > "data/$file.jsonl"; done
  "$py" -m swarr_verl prepare math500 --out data/math500 --from data/math500.jsonl
  "$py" -m swarr_verl prepare gsm8k --out data/gsm8k --from data/train.jsonl data/test.jsonl
}

longest=1024  # prompt in evaluation; MATH-500 has one of 835 tokens

window() { if [ "$1" = SA ]; then echo $((longest + RESPONSE)); else echo "$WINDOW"; fi; }

# judge STATE CHECKPOINT ATTENTION -> results/eval_STATE_in_ATTENTION, _xSAMPLES
judge() {
  evaluate "$1_in_$3" "$2" --config "$MODEL" --window "$(window "$3")" --also "$SAMPLES@0.7" \
    --max-prompt-tokens "$longest" --max-tokens "$RESPONSE"
}

# start ATTENTION: SFT -> sft_ATTENTION, of SWA by way of the windows of CURRICULUM: sft_WINDOW, put under the next one
start() {
  local from=$MODEL last=
  if [ "$1" = SWA ]; then
    for window in $CURRICULUM; do
      narrow "$last" "$window"
      sft "sft_$window" "$files" "$window" model.path="$from"
      last=$window
    done
    narrow "$last" "$WINDOW"
  fi
  sft "sft_$1" "$files" "$(window "$1")" model.path="$from"
}

# narrow LAST WINDOW: from=sft_LAST under WINDOW, if there is a LAST
narrow() {
  if [ -z "$1" ]; then return; fi
  from=$WORK/from_$1_$2
  [ -d "$from" ] || "$py" -m swarr_verl convert "$(checkpoint "$1")" "$from" --window "$2"
}

checkpoint() { echo "$WORK/sft_$1/global_step_$(newest "sft_$1")/huggingface"; }

finished() { [ -s "results/eval_rl_$1_in_SA.json" ] && [ -s "results/eval_rl_$1_in_SWA.json" ]; }

# cell ATTENTION SEED
cell() {
  local name=rl_$1_$2 policy
  rl "$name" "$(checkpoint "$1")" "$(window "$1")" "$2" \
    "$WORK/data/gsm8k/rl_train.parquet" "$WORK/data/gsm8k/rl_test.parquet" "${overrides[@]}"
  policy=$name/global_step_$STEPS/actor/huggingface  # not the newest, which may be another in another cell
  judge "$name" "$policy" SWA &
  judge "$name" "$policy" SA
  wait $!
  rm -r "${WORK:?}/$name"
}

doctor
prepare
files="[${SOURCE/#rationales/$WORK/data/gsm8k/sft.parquet}]"
pending=$(for name in $CELLS; do finished "$name" || echo "$name"; done)
for attention in SA SWA; do
  case $pending in *${attention}_*) beside start "$attention" ;; esac
done
wait
for name in $pending; do beside cell "${name%_*}" "${name#*_}"; done
for attention in SA SWA; do  # while RL starts, which takes a minute or two before it needs the GPU
  case $pending in *${attention}_*)
    for under in SA SWA; do beside judge "sft_$attention" "$(checkpoint "$attention")" "$under"; done ;;
  esac
  beside judge base "$MODEL" "$attention"
done
wait
"$py" "$here/cells.py" results
missing=
for name in $CELLS; do finished "$name" || missing+=" $name"; done
say "finished; missing:${missing:- none} (logs: $WORK/logs)"
[ -z "$missing" ]
