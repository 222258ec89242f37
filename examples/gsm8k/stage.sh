#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For a GPU machine without a network: lay out what travels, in pieces of one call each (examples/pieces.sh).
#   bash examples/gsm8k/stage.sh KIT MODELS PARTS DATA [FILE ...]
# KIT     core/*.tar.xz (the Python stack), install.sh
# MODELS  dequantize.py, gguf-*.whl, Qwen2.5-Coder-0.5B-Instruct/ (tokenizer and config)
# PARTS   0/part.0 ... 6/part.6, the quantised weights
# DATA    train.jsonl, test.jsonl of GSM8K
# FILE    more data: math500.jsonl, for examples/evaluation; for scan.sh a math_train.jsonl too (MATH's train.jsonl)
# DONE    (environment) 'results.tar.gz.*' of an earlier lease, to go on from; or any tar of parts of its work folder
set -euo pipefail
[ $# -ge 4 ] || { sed -n 3,10p "$0"; exit 2; }
kit=$1 models=$2 parts=$3 data=$4
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
load=$root/.lease/part
rm -rf "$root"/.lease/part*
mkdir -p "$load"/{kit,data,work}
cp "$kit"/core/* "$kit/install.sh" "$models/dequantize.py" "$models"/gguf-*.whl "$load/kit/"
cp -r "$models/Qwen2.5-Coder-0.5B-Instruct" "$load/model"
cp "$data"/{train,test}.jsonl "${@:5}" "$load/data/"
if [ -n "${DONE:-}" ]; then cat $DONE | tar -C "$load/work" -xz; fi
chmod -R u+w "$load"
cat "$parts"/*/part.* > "$load/weights.gguf"
(cd "$load" && sha256sum weights.gguf > weights.sha256)
cd "$root"
"${PYTHON:-python3}" -m hatchling build -t wheel -d "$load/kit" 2>&1 | tail -n 1
. examples/pieces.sh
cut_up part
