#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole recipe on a laptop's CPU: pretrain a tiny self-attention model, convert it to a short window by SFT, adapt
# it by GRPO with vLLM rollouts, compare. All training is verl's own. About 12 minutes on 2 cores, 8 GiB, no network
# once installed.
#   bash examples/quickstart/run.sh
# A stage whose output exists is skipped; remove WORK to begin anew. Environment: WORK, SEED, OUT (of results.json and
# reward.png).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bash "$root/examples/setup_cpu.sh"
PATH=$root/.venv/bin:$PATH
WORK=${WORK:-$here/work}
. "$here/stages.sh"

in_one_go=$([ -e data.seconds ] || echo yes)
SECONDS=0
stage data python "$here/task.py" . --seed "$SEED"
sft pretrain "$WORK/model_init" 600 +swarr=cpu_sft
{ evaluate sa "$sa" && evaluate naive "$sa" --window "$WINDOW"; } & # beside the training: there are two cores
evaluations=$!
sft sft "$sa" 300 "+swarr=[sft,cpu_sft]" swarr.window="$WINDOW"
wait "$evaluations"
evaluate sft "$converted" &
evaluations=$!
rl rl grpo,cpu_rl "$converted"
wait "$evaluations"
evaluate rl "$WORK/rl/global_step_24/actor/huggingface"
python "$here/report.py" "$WORK" "${OUT:-$here}" --seed "$SEED" ${in_one_go:+--wall "$SECONDS"}
