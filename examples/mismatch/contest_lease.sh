#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The contest on four GPUs at once, in less than 30 minutes: contest.sh in parts, each in a folder of its name beside LEASE.
# On a machine without a network, from the checkout's root, after `lease.sh install` of examples/gsm8k:
#   start          all of it in the background
#   poll SECONDS   wait for all, at most so long; print where they stand; collect
#   finish         when time runs short: RL ends with its newest checkpoint, which is evaluated
# Its parts, by what an H100 took (commit 9e7bb32): SFT 125 s with its start, an evaluation 50, verl's start 200 to 290
#   after   GPUs 0, 1   the reference, `rationales`, and DISTILL_STEPS of distillation from there; the served gap
#   low     GPU 2       `low`, and RL from it, with the settings of the experiment's (examples/gsm8k, groups of 16)
#   own     GPU 3       `own`; drawing took 7 minutes: from what an earlier lease drew (DONE of stage.sh had
#                       results/drawn_gsm8k.parquet and draw.seconds), if there
#   more    GPUs 3, 1   then `distill` and `both`; a GPU holds a teacher or trainer beside those of `after` and `k1`
#   k1      GPUs 3, 1   a quarter of the steps of `after` with verl's k1, once its SFTs are there
#   topk    GPUs 2, 1   the steps of `after` with verl's forward KL over the teacher's likeliest tokens; not by default:
#                       beside RL of `low` it may not fit
# `more`, `k1` and `topk` take the weights of the SFTs of `after`. Environment: DISTILL_STEPS, STEPS (of RL), RUNS (the parts)
set -euo pipefail
lease=examples/gsm8k/lease.sh
installed=${LEASE:-/tmp/gsm8k}
beside=$(dirname "$installed")
read -ra runs <<< "${RUNS:-after low own more k1}"
export MODEL=$installed/model DATA=$installed/data EXAMPLE=. SCRIPT=mismatch/contest.sh
export DISTILL_STEPS=${DISTILL_STEPS:-40} STEPS=${STEPS:-100} TOKENS=16384 BEST=0 REFERENCE=
# With a given cache vLLM does not measure what is free, which others on the GPU change meanwhile.
teacher=distillation.teacher_models.teacher_model.inference
teacher="$teacher.gpu_memory_utilization=0.15 ++$teacher.engine_kwargs.vllm.kv_cache_memory_bytes=8589934592"
after="$teacher actor_rollout_ref.actor.optim.lr=2e-6 trainer.save_freq=10 trainer.test_freq=10"
loss=distillation.distillation_loss
k1="$loss.loss_mode=k1 $loss.loss_max_clamp=10"
# 1e-5: a supervised loss, of SFT's size
topk="$loss.loss_mode=forward_kl_topk $loss.topk=32 $loss.loss_max_clamp=10 $loss.use_policy_gradient=false"
topk="$topk actor_rollout_ref.actor.optim.lr=1e-5"
groups=(
  actor_rollout_ref.rollout.n=16 actor_rollout_ref.rollout.max_num_seqs=512 actor_rollout_ref.rollout.agent.num_workers=8
  actor_rollout_ref.actor.optim.lr_scheduler_type=cosine actor_rollout_ref.actor.optim.lr_warmup_steps=5
  actor_rollout_ref.actor.optim.min_lr_ratio=0.1 transfer_queue.backend.SimpleStorage.num_data_storage_units=2
  trainer.val_before_train=False trainer.test_freq=50
  "swarr.need.model=$MODEL" swarr.need.every=20 swarr.need.threads=8
)

wanted() { [[ " ${runs[*]} " == *" $1 "* ]]; }

# begin NAME GPUS [VARIABLE=VALUE ...] [-- OVERRIDES]
begin() {
  local name=$1 gpus=$2 variables=()
  if ! wanted "$name"; then return; fi
  shift 2
  while [ $# -gt 0 ] && [ "$1" != -- ]; do variables+=("$1") && shift; done
  env "${variables[@]}" LEASE="$beside/$name" CUDA_VISIBLE_DEVICES="$gpus" bash $lease start "${@:2}"
}

until_there() { until [ -e "$beside/$1" ]; do sleep 1; done; }

# hand NAME RUN: weights of an SFT of `after`; links, as it removes its own
hand() {
  if ! wanted "$2"; then return; fi
  until_there "after/work/results/eval_$1.json"
  mkdir -p "$beside/$2/work"
  cp -rl "$beside/after/work/$1" "$beside/$2/work/"
}

start() {
  mkdir -p "$installed/work/logs"
  begin after 0,1 REFERENCE=SA CONVERSIONS="rationales after" RL_TOKENS=8192 DISTILL="$after"
  begin low 2 CONVERSIONS=low BEST=1 PROMPTS=32 RL_TOKENS=16384 KV_GIB=8 -- "${groups[@]}"
  mkdir -p "$beside/own/work/results"
  cp "$installed"/work/results/{drawn_gsm8k.parquet,draw.seconds} "$beside/own/work/results/" || true
  begin own 3 CONVERSIONS=own
  rm -rf "$installed/follow"
  mkdir "$installed/follow"
  cp -r examples "$installed/follow/"  # later calls replace the checkout
  cd "$installed/follow"
  setsid nohup bash examples/mismatch/contest_lease.sh follow < /dev/null > ../work/logs/follow.log 2>&1 &
}

# follow: what waits for others
follow() {
  hand SA more
  for run in k1 topk; do
    hand SA $run
    hand rationales $run
  done
  begin topk 2,1 CONVERSIONS=after RL_TOKENS=8192 DISTILL="$after $topk"
  begin k1 3,1 CONVERSIONS=after RL_TOKENS=8192 DISTILL="$after $k1" DISTILL_STEPS=$((DISTILL_STEPS / 4))
  if wanted own; then until_there own/exit; fi
  begin more 3,1 CONVERSIONS="distill both" RL_TOKENS=8192 DISTILL_STEPS=6 \
    DISTILL="$teacher actor_rollout_ref.actor.optim.lr=1e-5"
}

finish() {  # nothing is trained any more: the other knobs are not asked
  if [ -e "$beside/low/exit" ]; then return; fi
  LEASE=$beside/low CUDA_VISIBLE_DEVICES=2 CONVERSIONS=low BEST=1 bash $lease finish
}

poll() { ALL=${runs[*]/#/$beside/} bash $lease poll "$@"; }

"$@"
