#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The quickstart's toy, of which it is known what a window cannot serve: what do need and distillation make of it? From
# the quickstart's models, on-policy distillation by the model of full attention, after SFT and instead of it, with the
# steps, answers and learning rate of its RL: each token blamed for itself (verl's k1), and for all that comes after it as
# well (+swarr=distill's loss), or told the teacher's own likeliest tokens (verl's forward KL); then need and served gap
# (SFT with the window, and before it). A CPU, 40 minutes.
#   bash examples/mismatch/toy.sh
# A stage whose output exists is skipped. Runs the quickstart first. Environment: WORK (of both), SEED.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export WORK=${WORK:-$root/examples/quickstart/work}
OUT=$WORK bash "$root/examples/quickstart/run.sh"
PATH=$root/.venv/bin:$PATH
. "$root/examples/quickstart/stages.sh"

loss=distillation.distillation_loss
distill() { # distill NAME STUDENT [overrides] -> eval_NAME
  rl "$1" distill,cpu_distill "$2" distillation.teacher_models.teacher_model.model_path="$sa" "${@:3}"
  evaluate "$1" "$WORK/$1/global_step_24/actor/huggingface"
}

for start in sft sa; do
  if [ $start = sft ]; then student=$converted; else student=$sa; fi
  distill "distill_$start" "$student" $loss.loss_mode=k1 $loss.loss_max_clamp=10
  distill "ahead_$start" "$student"
  distill "topk_$start" "$student" $loss.loss_mode=forward_kl_topk $loss.topk=32 $loss.loss_max_clamp=10 \
    $loss.use_policy_gradient=false
done
stage need python -m swarr_verl mismatch sft.parquet eval_{sa,naive,sft,rl,{distill,ahead,topk}_{sft,sa}}.jsonl.gz \
  --problems rl_test.parquet --model "$sa" --served "$converted" --window "$WINDOW" --stride 1 --limit 512 --out need
python "$here/toy.py" "$WORK"
