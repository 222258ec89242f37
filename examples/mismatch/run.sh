#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How much context older than a window GSM8K's test problems need: in their own rationales, and in the answers that the
# states of examples/gsm8k/cells.sh gave to them. A GPU, or a CPU and patience; killed, the same command goes on.
#   RESULTS=examples/gsm8k/results/groups16 bash examples/mismatch/run.sh [more options of `mismatch`]
# Environment: MODEL    that reads: of full attention        RESULTS  folder with eval_*_in_*.jsonl.gz (greedy)
#              DATA     folder with GSM8K's test.jsonl
#              WORK     results/wWINDOW is written there      WINDOW   tokens          PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct}
DATA=${DATA:?a folder with test.jsonl}
RESULTS=${RESULTS:?a folder with eval_*_in_*.jsonl.gz}
WORK=${WORK:-$here/work}
WINDOW=${WINDOW:-96}
py=${PYTHON:-python3}
. "$here/need.sh"

mkdir -p "$WORK"
rationales_of "$DATA/test.jsonl" "$WORK"
"$py" -m swarr_verl prepare gsm8k --split test --out "$WORK/data/gsm8k" --from "$DATA/test.jsonl"
answers=()
against=(rationales)  # and each attention's answers after SFT, to see what RL changes
for file in "$RESULTS"/eval_*_in_*.jsonl.gz; do
  [[ $file == *_x*.jsonl.gz ]] || answers+=("$file")
  case $file in */eval_sft_SA_in_SA.jsonl.gz | */eval_sft_SWA_in_SWA.jsonl.gz) against+=("$(basename "$file" .jsonl.gz)") ;; esac
done
# GSM8K's problems come first in each file.
"$py" -m swarr_verl mismatch "$WORK/rationales.parquet" "${answers[@]}" --problems "$WORK/data/gsm8k/rl_test.parquet" \
  --limit "$(wc -l < "$DATA/test.jsonl")" --model "$MODEL" --window "$WINDOW" --against "${against[@]}" \
  --out "$WORK/results/w$WINDOW" "$@"
