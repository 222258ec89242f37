# SPDX-License-Identifier: Apache-2.0
# What halves.sh, contest.sh and run.sh share; the first two source this after stages.sh, with WINDOW, STRIDE and LIMIT set.
tests=(data/gsm8k/rl_test.parquet)

# rationales_of TEST_JSONL WORK: the test problems' rationales as SFT data, as if they were the train split
#   -> WORK/rationales.parquet
rationales_of() {
  "$py" -m swarr_verl prepare gsm8k --split train --out "$2/data/rationales" --from "$1"
  ln -sf data/rationales/sft.parquet "$2/rationales.parquet"
}

prepare() {
  if [ -s data/gsm8k/rl_train.parquet ]; then return; fi  # the last that is written
  mkdir -p data
  for file in train test; do head -n "${LIMIT:--0}" "$DATA/$file.jsonl" > "data/$file.jsonl"; done
  "$py" -m swarr_verl prepare gsm8k --out data/gsm8k --from data/train.jsonl data/test.jsonl
}

# measure: what the rationales need of what is older than WINDOW -> need/
measure() {
  if [ -s need/mismatch.md ]; then return; fi
  say "measure"
  bounded measure "$py" -m swarr_verl mismatch data/gsm8k/sft.parquet --model "$MODEL" --window "$WINDOW" \
    --stride "$STRIDE" --out need
}

# half NAME SEED -> data/NAME_SEED/sft.parquet
half() {
  local ranks=(--first "$1")
  if [ -s "data/$1_$2/sft.parquet" ]; then return; fi
  if [ "$1" = random ]; then ranks=(--rank-by random); fi
  "$py" -m swarr_verl prepare ranked --from data/gsm8k/sft.parquet --measured need/mismatch.parquet --share 0.5 \
    "${ranks[@]}" --seed "$2" --out "data/$1_$2"
}
