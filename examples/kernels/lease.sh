#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For a GPU machine without a network that takes at most 64 MiB a call. From the checkout's root:
#   stage KIT            here: .lease/kernels0 and .lease/kernels1 from KIT/core, KIT/fa4 and KIT/install.sh
#   install              there, once with each folder: unpack it into $SITE
#   tests                there: tests/gpu, and beside it vLLM parity in fp32; logs -> $OUT
#   bench [COMMIT]       there: bench.py and plot.py -> $OUT
set -euo pipefail
export SITE=${SITE:-/tmp/site}
py=${PYTHON:-python3}
if [ -e "$SITE/env.sh" ]; then . "$SITE/env.sh"; fi

stage() {
  mkdir -p .lease
  rm -rf .lease/kernels?
  cp -r "$1/core" .lease/kernels0
  cp -r "$1/fa4" .lease/kernels1
  chmod -R u+w .lease/kernels?
  for dir in .lease/kernels?; do cp "$1/install.sh" "$dir/"; done
  "$py" -m hatchling build -t wheel -d .lease/kernels0 2>&1 | tail -n 1
  du -s --block-size=1MiB .lease/kernels?
}

install() {
  for dir in .lease/kernels?; do
    bash "$dir/install.sh" "$dir"
    for wheel in "$dir"/*.whl; do [ ! -e "$wheel" ] || "$py" -m zipfile -e "$wheel" "$SITE"; done
  done
}

tests() {
  local limit=(timeout -k 10 -s INT 270)  # pytest reports on an interrupt
  export OMP_NUM_THREADS=4
  "${limit[@]}" "$py" -m pytest tests/parity/test_vllm.py -n 4 -o addopts= -rf > "$OUT/parity.log" 2>&1 &
  "${limit[@]}" "$py" -m pytest tests/gpu -o addopts= -rf --durations=5 > "$OUT/gpu.log" 2>&1 || true
  tail -n 12 "$OUT/gpu.log" | cut -c1-200
  wait || true
  grep '^E  ' "$OUT/parity.log" | cut -c1-300 | head -n 30 || true
  tail -n 16 "$OUT/parity.log" | cut -c1-200
  pkill -f generate.py || true  # what an interrupt left on the GPU
}

bench() {
  timeout 400 "$py" examples/kernels/bench.py "$OUT/h100.json" --commit "${1:-unknown}" 2>&1 | tail -n 70
  "$py" examples/kernels/plot.py "$OUT/h100.json" "$OUT/h100.png" > /dev/null || echo "no figure"  # tables: above
}

"$@"
