# SPDX-License-Identifier: Apache-2.0
# What halves.sh and contest.sh share; they source this after stages.sh, with WINDOW, STRIDE and LIMIT set.
tests=(data/gsm8k/rl_test.parquet)

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
