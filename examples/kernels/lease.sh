#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For a GPU machine without a network that takes at most 64 MiB a call. From the checkout's root:
#   stage KIT            here: KIT/core, KIT/fa4 and KIT/install.sh in pieces, .lease/kernels00, kernels01, ...
#   part                 there, once with each piece
#   install              there, after the last: unpack them into $SITE
#   tests                there: the kernels' tests, and beside them vLLM parity in bf16; logs -> $OUT
#   verl                 there: verl's trainers and vLLM on all GPUs (two, if possible); log -> $OUT
#   bench [COMMIT]       there: bench.py and plot.py -> $OUT
set -euo pipefail
export SITE=${SITE:-/tmp/site}
py=${PYTHON:-python3}
. examples/pieces.sh
if [ -e "$SITE/env.sh" ]; then . "$SITE/env.sh"; fi

stage() {
  local load=.lease/kernels
  rm -rf .lease/kernels*
  mkdir -p $load
  cp -r "$1/core" "$1/fa4" "$1/install.sh" $load/
  chmod -R u+w $load
  "$py" -m hatchling build -t wheel -d $load 2>&1 | tail -n 1
  cut_up kernels
}

kit=${KIT:-/tmp/kernels}

part() { keep kernels "$kit"; }

install() {
  join kernels "$kit"
  bash "$kit/install.sh" "$kit"
  for wheel in "$kit"/*.whl; do "$py" -m zipfile -e "$wheel" "$SITE"; done
}

# pytest reports on an interrupt; its messages are lost if it is killed
limit=(timeout -k 10 -s INT)

tests() {
  export OMP_NUM_THREADS=6
  "${limit[@]}" 400 "$py" -m pytest tests/parity/test_vllm.py -o addopts= -rf --durations=3 --junitxml="$OUT/parity.xml" \
    > "$OUT/parity.log" 2>&1 &
  "${limit[@]}" 400 "$py" -m pytest tests/gpu/test_kernels.py -o addopts= -rf --durations=3 > "$OUT/gpu.log" 2>&1 || true
  tail -n 12 "$OUT/gpu.log" | cut -c1-200
  wait || true
  grep '^E  ' "$OUT/parity.log" | cut -c1-300 | head -n 40 || true
  tail -n 16 "$OUT/parity.log" | cut -c1-200
}

verl() {
  export RAY_prestart_worker_first_driver=0 RAY_enable_worker_prestart=0 OMP_NUM_THREADS=1
  "${limit[@]}" "${1:-540}" "$py" -m pytest tests/gpu/test_verl.py -n 6 -o addopts= -rA > "$OUT/verl.log" 2>&1 || true
  grep -E '^(E  |PASSED|FAILED|SKIPPED|[0-9]+ \{|train/)|passed|failed' "$OUT/verl.log" | cut -c1-300 | head -n 90 || true
}

bench() {
  timeout 400 "$py" examples/kernels/bench.py "$OUT/h100.json" --commit "${1:-unknown}" 2>&1 | tail -n 70
  "$py" examples/kernels/plot.py "$OUT/h100.json" "$OUT/h100.png" > /dev/null || echo "no figure"  # tables: above
}

"$@"
