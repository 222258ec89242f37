#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which conversion to a window is best at equal GPU minutes? A model of full attention is converted in up to six ways,
# the BEST get RL under the window; the reference is SFT on rationales and RL under full attention. Greedy accuracy on
# GSM8K's test set after each. GPUs of 80 GB, two of them for distill; without one, on the CPU.
#   bash examples/mismatch/contest.sh [more overrides for RL]
#   rationales  SFT on GSM8K's                    own      SFT on the model's own right answers
#   low         SFT on the half of the rationales, by tokens, that needs least of what is older than the window
#   distill     on-policy distillation; the teacher is the reference after its SFT, on a GPU of its own
#   both        half of `rationales`, then half of `distill`
#   after       all of `rationales` (give that, too), then all of `distill`: not in equal minutes, and not by default
# Between conversions and RL it measures what SFT under the window loses on a token more than the same SFT without it
# (results/served.md): of the test problems' rationales, and of the answers of both.
# By default each trains for about 2 GPU minutes, by what an H100 took for what is like it: 234 steps of SFT (two epochs
# of rationales) 110 s; 162 steps on own answers, which are longer, as long as 232 on rationales; a step of GRPO 9 s,
# twice that on two GPUs. The table has what they took. A stage whose output exists is skipped; weights that nothing
# needs any more go. Reads the stages of examples/gsm8k.
# Environment: MODEL    converted, draws and reads    DATA    folder with GSM8K's train.jsonl, test.jsonl
#              WORK     everything is written here    WINDOW  tokens
#              CONVERSIONS                            BEST    so many get RL, by accuracy, and SA (0: none)
#              REFERENCE  SA, or empty: another run makes it, and SA/ here only teaches
#              SFT_STEPS, OWN_STEPS (of own), BATCH, TOKENS (of a micro-batch of SFT)
#              DISTILL_STEPS, DISTILL (overrides)     STEPS   of RL; of both: PROMPTS (a step), RL_TOKENS, KV_GIB
#              STRIDE   of `mismatch`                 SAMPLES, KEEP  answers drawn a problem, right ones kept at most
#              RESPONSE tokens, at most               LIMIT   problems of each file (empty: all)
#              JOBS     stages side by side on a GPU: with more than one, minutes are longer
#              TIMEOUT  of a stage                    PYTHON
set -euo pipefail
own=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
here=$own/../gsm8k
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:?a folder with train.jsonl, test.jsonl}
WORK=${WORK:-$own/work/contest}
WINDOW=${WINDOW:-96}
CONVERSIONS=${CONVERSIONS:-rationales own low distill both}
BEST=${BEST:-2}
REFERENCE=${REFERENCE-SA}
SFT_STEPS=${SFT_STEPS:-234}
OWN_STEPS=${OWN_STEPS:-163}
DISTILL_STEPS=${DISTILL_STEPS:-6}
DISTILL=${DISTILL-actor_rollout_ref.actor.optim.lr=1e-5}
STEPS=${STEPS:-100}
PROMPTS=${PROMPTS:-64}
STRIDE=${STRIDE:-16}
SAMPLES=${SAMPLES:-4}
KEEP=${KEEP:-2}
RESPONSE=${RESPONSE:-512}
LIMIT=${LIMIT:-}
JOBS=${JOBS:-1}
py=${PYTHON:-python3}
. "$here/stages.sh"
. "$own/need.sh"
trap 'trap - INT; kill 0' INT  # bash hides Ctrl-C from what runs beside it
overrides=("$@")
train=$WORK/data/gsm8k/rl_train.parquet test=$WORK/data/gsm8k/rl_test.parquet

# clocked NAME OUTPUT COMMAND ...: the seconds in which it makes OUTPUT, start-up included -> results/NAME.seconds
clocked() {
  local start=$SECONDS
  if [ -s "$2" ]; then return; fi
  "${@:3}"
  echo $((SECONDS - start)) > "results/$1.seconds"
}

# steps NAME FILE WINDOW STEPS: SFT; its progress bars -> results/NAME_bars.txt, as verl's SFT trainer logs no times
steps() {
  TQDM_BAR_FORMAT='{desc}: {n}/{total} [{elapsed_s:.2f}<' \
    EPOCHS=1000 sft "$1" "$WORK/$2" "$3" trainer.total_training_steps="$4"
  if [ ! -e "logs/$1.log" ]; then return; fi  # the weights are another run's
  tr '\r' '\n' < "logs/$1.log" | grep -aoE '^Epoch [^[]*\[[0-9.]+<' > "results/$1_bars.txt"
}

# distill NAME STEPS [STUDENT]: SA's SFT teaches it (MODEL, unless given) under the window; without verl's own
# evaluations: `judge` follows
distill() {
  local student=$MODEL teacher=distillation.teacher_models.teacher_model
  if [ "$(newest "$1")" -ge "$2" ]; then return; fi
  learn SA
  if [ -n "${3:-}" ]; then
    learn "$3"
    student=$(checkpoint "$3")
  fi
  # shellcheck disable=SC2086
  STEPS=$2 adapt=$distill rl "$1" "$student" "$WINDOW" 1 "$train" "$test" "$teacher.model_path=$(checkpoint SA)" \
    "$teacher.inference.gpu_memory_utilization=0.3" trainer.val_before_train=false trainer.test_freq=-1 $DISTILL
}

# learn NAME: a conversion, or SA, the reference -> NAME/
learn() {
  case $1 in
    SA) steps SA data/gsm8k/sft.parquet SA "$SFT_STEPS" ;;
    rationales) steps rationales data/gsm8k/sft.parquet "$WINDOW" "$SFT_STEPS" ;;
    own)
      clocked draw results/drawn_gsm8k.parquet draw gsm8k
      steps own results/drawn_gsm8k.parquet "$WINDOW" "$OWN_STEPS"
      ;;
    low)
      clocked measure need/mismatch.md measure
      half low 1
      steps low data/low_1/sft.parquet "$WINDOW" "$SFT_STEPS"
      ;;
    distill) distill distill "$DISTILL_STEPS" ;;
    half) steps half data/gsm8k/sft.parquet "$WINDOW" $((SFT_STEPS / 2)) ;;
    both) distill both $((DISTILL_STEPS / 2)) half ;;
    after) distill after "$DISTILL_STEPS" rationales ;;
    *) say "no such conversion: $1"; return 1 ;;
  esac
}

# served: while there are the weights and the answers of both
served() {
  local name
  if [ -s results/served.json ]; then return; fi
  for name in SA rationales; do
    if [ "$(newest $name)" = 0 ] || [ ! -s results/eval_$name.json ]; then return; fi
  done
  say "served"
  rationales_of data/test.jsonl .
  bounded served "$py" -m swarr_verl mismatch rationales.parquet results/eval_{SA,rationales}.jsonl.gz \
    --problems "$test" --model "$(checkpoint SA)" --served "$(checkpoint rationales)" --window "$WINDOW" \
    --stride "$STRIDE" --out served
  cp served/mismatch.md results/served.md
  cp served/mismatch.json results/served.json
}

# checkpoint RUN: its newest
checkpoint() { find "$WORK/$1/global_step_$(newest "$1")" -type d -name huggingface; }

judge() { evaluate "$1" "$(checkpoint "$1")" --max-prompt-tokens 1024 --max-tokens "$RESPONSE"; }

convert() {
  if [ -s "results/eval_$1.json" ]; then return; fi
  learn "$1"
  judge "$1"
}

# reinforce NAME: RL from a conversion or SA, under its attention; full attention is a window that no sequence reaches
reinforce() {
  local window=$WINDOW
  if [ "$1" = SA ]; then window=$((1024 + RESPONSE)); fi
  if [ ! -s "results/eval_rl_$1.json" ]; then
    learn "$1"
    rl "rl_$1" "$(checkpoint "$1")" "$window" 1 "$train" "$test" "${overrides[@]}"
    judge "rl_$1"
  fi
  rm -rf "${WORK:?}/$1" "${WORK:?}/rl_$1"
}

# ranking: the conversions that are there, best first
ranking() {
  for name in $CONVERSIONS; do
    if [ ! -s "results/eval_$name.json" ]; then continue; fi
    sed -n "s/.*\"accuracy\": \(.*\),/\1 $name/p" "results/eval_$name.json"
  done | sort -rgs -k1,1 | cut -d' ' -f2
}

doctor
prepare
for name in $REFERENCE $CONVERSIONS; do
  case $name in
    distill | after) ;;
    both) if [ ! -s results/eval_both.json ]; then beside learn half; fi ;;
    *) beside convert "$name" ;;
  esac
done
wait
for name in $CONVERSIONS; do  # alone, and with every GPU in its sight
  case $name in distill | both | after) convert "$name" & wait ;; esac
done
rm -rf "${WORK:?}/half"
served
best=$(ranking | awk "NR <= $BEST")
for name in $(ranking | awk "NR > $BEST"); do rm -rf "${WORK:?}/$name"; done
for name in ${best:+$REFERENCE $best}; do beside reinforce "$name"; done
wait
"$py" "$own/contest.py" results
missing=
for name in $REFERENCE $CONVERSIONS ${best:+$(printf 'rl_%s ' $REFERENCE $best)}; do
  if [ ! -s "results/eval_$name.json" ]; then missing+=" $name"; fi
done
say "finished; missing:${missing:- none} (logs: $WORK/logs)"
[ -z "$missing" ]
