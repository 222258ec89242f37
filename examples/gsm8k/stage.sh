#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For a GPU machine without a network that takes at most 64 MiB a call: lay out what travels, as folders of this checkout.
#   bash examples/gsm8k/stage.sh KIT MODELS PARTS DATA [FILE ...]
# KIT     core/*.tar.xz (the Python stack), install.sh, smoke.py
# MODELS  dequantize.py, gguf-*.whl, Qwen2.5-Coder-0.5B-Instruct/ (tokenizer and config)
# PARTS   0/part.0 ... 6/part.6, the quantised weights
# DATA    train.jsonl, test.jsonl of GSM8K
# FILE    more data: math500.jsonl, for examples/evaluation; for scan.sh a math_train.jsonl too (MATH's train.jsonl)
# DONE    (environment) results.tar.gz of an earlier lease, to go on from
# Makes .lease/core, .lease/part0 ... part6 and, of DONE, .lease/partdone, each one call's load, ignored by git.
set -euo pipefail
[ $# -ge 4 ] || { sed -n 3,11p "$0"; exit 2; }
kit=$1 models=$2 parts=$3 data=$4
more=() done=${DONE:+$(realpath "$DONE")}
for file in "${@:5}"; do more+=(-C "$(realpath "$(dirname "$file")")" "$(basename "$file")"); done
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
core=.lease/core
rm -rf .lease
mkdir -p $core
cp "$kit"/core/* "$kit/install.sh" "$kit/smoke.py" "$models/dequantize.py" "$models"/gguf-*.whl $core/
chmod -R u+w $core
"${PYTHON:-python3}" -m hatchling build -t wheel -d $core 2>&1 | tail -n 1
cat "$parts"/*/part.* | sha256sum | cut -d' ' -f1 > $core/weights.sha256
for dir in "$parts"/*/; do
  n=$(basename "$dir")
  mkdir ".lease/part$n"
  cp "$dir/part.$n" ".lease/part$n/"
done
# with the last part, which is not full: the core leaves little room for the rest of the checkout
tar -C "$models" -c Qwen2.5-Coder-0.5B-Instruct | gzip -9 > ".lease/part$n/model.tgz"
tar -C "$data" -c train.jsonl test.jsonl "${more[@]}" | gzip -9 > ".lease/part$n/data.tgz"
if [ -n "$done" ]; then mkdir .lease/partdone && cp "$done" .lease/partdone/done.tgz; fi
du -s --block-size=1MiB .lease/*
for dir in .lease/*; do
  [ "$(du -sb "$dir" | cut -f1)" -lt $((60 << 20)) ] || { echo "$dir: over 60 MiB, too much for one call" >&2; exit 1; }
done
