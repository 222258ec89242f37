#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on the GPU machine without a network, from the checkout's root, over what stage.sh laid out. README has the order.
#   install              .lease/core -> $SITE (stack, this package); then smoke test and doctor in the background
#   part                 .lease/part* -> $LEASE/parts
#   model                unpack data, tokenizer and what an earlier lease finished; join, check and dequantise the weights
#                        -> $LEASE/data, $LEASE/model, $LEASE/work/results
#   start [overrides]    $SCRIPT (run.sh) of examples/$EXAMPLE (gsm8k) in the background; its knobs from the environment
#   poll [SECONDS]       wait for it, at most so long; print where it stands; collect
#   collect              results.tar.gz and logs.tar.gz -> $OUT
#   stop                 end it and what it started; `start` goes on from there
set -euo pipefail
export SITE=${SITE:-/tmp/site} LEASE=${LEASE:-/tmp/gsm8k}
name=Qwen2.5-Coder-0.5B-Instruct
py=${PYTHON:-python3}
mkdir -p "$LEASE/parts" "$LEASE/work/logs" "$LEASE/work/results"
background() { setsid nohup bash -c "$1" < /dev/null > /dev/null 2>&1 & }
if [ -e "$SITE/env.sh" ]; then . "$SITE/env.sh"; fi

install() {
  core=$PWD/.lease/core
  bash "$core/install.sh" "$core"
  . "$SITE/env.sh"
  for wheel in "$core"/*.whl; do "$py" -m zipfile -e "$wheel" "$SITE"; done
  "$py" -m compileall -q -j "$(nproc)" "$SITE" > "$LEASE/work/logs/compileall.log" 2>&1 || true
  cp "$core/dequantize.py" "$core/smoke.py" "$core/weights.sha256" "$LEASE/"
  # The machine waits for the weights meanwhile: test the stack, and read it into memory.
  background "cd $LEASE/work && { $py -m swarr_verl doctor > doctor.part 2>&1 && mv doctor.part doctor.txt; \
    $py $LEASE/smoke.py fa2 vllm ray > logs/smoke.log 2>&1; }"
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || true
}

part() { cp .lease/part*/* "$LEASE/parts/"; }

model() {
  mkdir -p "$LEASE/data" "$LEASE/model"
  tar -C "$LEASE/data" -xzf "$LEASE/parts/data.tgz"
  tar -C "$LEASE/model" --strip-components=1 -xzf "$LEASE/parts/model.tgz"
  if [ -e "$LEASE/parts/done.tgz" ]; then tar -C "$LEASE/work" -xzf "$LEASE/parts/done.tgz"; fi
  cat "$LEASE"/parts/part.* > "$LEASE/weights.gguf"
  echo "$(cat "$LEASE/weights.sha256")  $LEASE/weights.gguf" | sha256sum -c --quiet
  "$py" "$LEASE/dequantize.py" "$LEASE/weights.gguf" "$LEASE/model/model.safetensors"
  tail -n 3 "$LEASE/work/doctor.txt" "$LEASE/work/doctor.part" "$LEASE/work/logs/smoke.log" 2>/dev/null || true
}

start() {
  rm -rf "$LEASE/exit" "$LEASE/code"
  cp -r "examples/${EXAMPLE:-gsm8k}" "$LEASE/code"  # later calls replace the checkout under a running script
  export MODEL=$LEASE/model DATA=$LEASE/data WORK=$LEASE/work
  background "echo \$\$ > $LEASE/pid; bash $LEASE/code/${SCRIPT:-run.sh} ${*@Q} >> $LEASE/work/logs/run.log 2>&1; \
    echo \$? > $LEASE/exit"
}

poll() {
  end=$((SECONDS + ${1:-0}))
  while [ ! -e "$LEASE/exit" ] && [ $SECONDS -lt $end ]; do sleep 2; done
  echo "exit: $(cat "$LEASE/exit" 2>/dev/null || echo running)"
  tail -n 12 "$LEASE/work/logs/run.log" || true
  if [ -e "$LEASE/code/progress.py" ]; then "$py" "$LEASE/code/progress.py" "$LEASE/work/results" || true; fi
  nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader || true
  if [ "$(cat "$LEASE/exit" 2>/dev/null || echo 0)" != 0 ]; then  # what failed is what was written to last
    for log in $(ls -t "$LEASE"/work/logs/*.log | head -n 2); do echo "== $log"; tail -n 40 "$log" | cut -c1-300; done
  fi
  collect
}

collect() {
  out=${OUT:?is set by the tool}
  tar -C "$LEASE/work" -czf "$out/results.tar.gz" results
  rm -rf "$LEASE/logs"
  mkdir "$LEASE/logs"
  for log in "$LEASE"/work/logs/*.log "$LEASE"/work/doctor.*; do
    [ -e "$log" ] && tail -c 4000000 "$log" > "$LEASE/logs/$(basename "$log")"
  done
  tar -C "$LEASE" -czf "$out/logs.tar.gz" logs
}

stop() { kill -TERM -- "-$(cat "$LEASE/pid")"; }

"$@"
