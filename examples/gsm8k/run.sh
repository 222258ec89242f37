#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Real model, real data, one GPU of 80 GB: SFT conversion and GRPO on GSM8K under one window, with evaluations.
#   bash examples/gsm8k/run.sh [more overrides for GRPO]
# A stage whose output exists is skipped, so the same command goes on where it stopped.
# Environment: MODEL  folder or hub name            DATA     folder with train.jsonl and test.jsonl (empty: the hub)
#              WORK   everything is written here    CONTROL  1: also SFT without a window, for comparison
#              WINDOW, STEPS (of GRPO), TIMEOUT (of a stage), PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:-}
WORK=${WORK:-$here/work}
WINDOW=${WINDOW:-64}
STEPS=${STEPS:-60}
CONTROL=${CONTROL:-1}
py=${PYTHON:-python3}

tests=(rl_test.parquet)
. "$here/stages.sh"

control() {
  sft sft_sa "$WORK/sft.parquet" SA
  evaluate sft_sa "sft_sa/global_step_$(newest sft_sa)/huggingface"
}

jobs=() failed=0
aside() {  # run a stage beside the others; join says whether one failed
  "$@" &
  jobs+=($!)
}
join() {
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  jobs=()
}

doctor
if [ ! -s rl_train.parquet ]; then  # the last that is written
  "$py" -m swarr_verl prepare gsm8k --out . ${DATA:+--from "$DATA/train.jsonl" "$DATA/test.jsonl"}
fi

aside evaluate sa "$MODEL"
aside evaluate naive "$MODEL" --window "$WINDOW"
join  # two SFTs fill 80 GB: an engine that starts beside them finds no memory
if [ "$CONTROL" = 1 ]; then aside control; fi
sft sft "$WORK/sft.parquet" "$WINDOW"
converted=$WORK/sft/global_step_$(newest sft)/huggingface
aside evaluate sft "$converted"
seeds=(actor_rollout_ref.rollout.seed=42 actor_rollout_ref.actor.data_loader_seed=42)  # verl's own: results/ has them
rl grpo "$converted" "$WINDOW" 1 "$WORK/rl_train.parquet" "$WORK/rl_test.parquet" "${seeds[@]}" "$@"
evaluate rl "grpo/global_step_$(newest grpo)/actor/huggingface"
join
"$py" "$here/plot.py" results
say "finished, failed stages: $failed (see $WORK/logs)"
exit "$failed"
