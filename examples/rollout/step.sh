#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a GRPO step costs with long responses, part by part: full attention (a window that no sequence reaches) against a
# window. Every response has LENGTH tokens, end of sequence or not. One GPU of 80 GB; without one, on the CPU.
#   bash examples/rollout/step.sh [more overrides]
# A run whose log is complete is skipped. Reads the stages of examples/gsm8k.
# Environment: MODEL    folder or hub name: the tokenizer, and the weights of the shape `model`
#              CASES    of SHAPE:LENGTH, in this order: `model`, or a shape of `bench` with random weights (0.5b 1.5b
#                       7b), and the responses' length in tokens
#              DATA     folder with GSM8K's train.jsonl, test.jsonl: the prompts   WORK  everything is written here
#              WINDOW   to compare with              STEPS    the first is not counted   ATTENTIONS  SA, SWA
#              PROMPTS  a step, 8 responses each     KV_GIB   of cache   TIMEOUT  of a run   PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
CASES=${CASES:-model:8192 model:16384 1.5b:8192 1.5b:16384}
DATA=${DATA:?a folder with train.jsonl, test.jsonl}
WORK=${WORK:-$here/work/step}
WINDOW=${WINDOW:-4096}
STEPS=${STEPS:-3}
PROMPTS=${PROMPTS:-16}
KV_GIB=${KV_GIB:-24}
JOBS=1
TIMEOUT=${TIMEOUT:-30m}
py=${PYTHON:-python3}
. "$here/../gsm8k/stages.sh"

complete() { [ -e "results/$1.jsonl" ] && [ "$(wc -l < "results/$1.jsonl")" -ge "$STEPS" ]; }

# step SHAPE LENGTH ATTENTION [overrides] -> results/step_SHAPE_LENGTH_ATTENTION.jsonl
step() {
  local name=step_$1_$2_$3 model=$WORK/$1 window=$WINDOW RESPONSE=$2 RL_TOKENS=$((512 + $2))
  if complete "$name"; then return; fi
  rm -f "results/$name.jsonl"
  if [ "$1" = model ]; then model=$MODEL; fi
  if [ "$3" = SA ]; then window=$((512 + RESPONSE)); fi
  rl "$name" "$model" "$window" 1 "$WORK/data/rl_train.parquet" "$WORK/data/rl_test.parquet" \
    actor_rollout_ref.rollout.ignore_eos=true actor_rollout_ref.model.enable_gradient_checkpointing=true \
    trainer.val_before_train=false trainer.test_freq=-1 trainer.save_freq=-1 "${@:4}"
}

if [ ! -s data/rl_train.parquet ]; then
  "$py" -m swarr_verl prepare gsm8k --out data --from "$DATA/train.jsonl" "$DATA/test.jsonl"
fi
missing=
for case in $CASES; do
  IFS=: read -r shape length <<< "$case"
  if [ "$shape" != model ] && [ ! -e "$shape/config.json" ]; then "$py" "$here/step.py" make "$shape" "$MODEL" "$shape"; fi
  for attention in ${ATTENTIONS:-SA SWA}; do
    step "$shape" "$length" "$attention" "$@" || missing+=" ${case}:$attention"
  done
done
"$py" "$here/step.py" table results "$WINDOW"
say "finished; missing:${missing:- none} (logs: $WORK/logs)"
[ -z "$missing" ]
