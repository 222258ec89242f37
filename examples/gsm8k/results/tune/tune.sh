# Settings of RL side by side on one GPU, from one SFT at W=96; with the stages of cells.sh. In a lease, after `lease.sh install`.
set -uo pipefail
. /tmp/site/env.sh
here=/tmp/gsm8k/code MODEL=/tmp/gsm8k/model DATA=/tmp/gsm8k/data WORK=/tmp/gsm8k/work py=python3
JOBS=3 STEPS=200 RESPONSE=512 PROMPTS=64 RL_TOKENS=8192 KV_GIB=3 TOKENS=16384
tests=()
. $here/stages.sh
$py -m swarr_verl prepare gsm8k --out data/gsm8k --from $DATA/train.jsonl $DATA/test.jsonl
sft sft_SWA "[$WORK/data/gsm8k/sft.parquet]" 96
variant() {
  local name=tune_$1
  shift
  rl "$name" "$WORK/sft_SWA/global_step_232/huggingface" 96 1 "$WORK/data/gsm8k/rl_train.parquet" \
    "$WORK/data/gsm8k/rl_test.parquet" trainer.test_freq=10 trainer.save_freq=1000 "$@"
}
actor=actor_rollout_ref.actor
beside variant lr1 $actor.optim.lr=1e-6
beside variant lr2 $actor.optim.lr=2e-6
beside variant lr2_one $actor.optim.lr=2e-6 $actor.ppo_mini_batch_size=64
wait
