#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on the GPU machine without a network, from the checkout's root, over what stage.sh laid out. README has the order.
#   part                 a piece of it: once with each
#   install              after the last: stack and this package -> $SITE; weights dequantised; model, data, work -> $LEASE
#   start [overrides]    $SCRIPT (run.sh) of examples/$EXAMPLE (gsm8k) in the background; its knobs from the environment
#   poll [SECONDS]       wait for it, at most so long; print where it stands; collect
#   collect              results.tar.gz.00, .01, ... (one file, cut up) and logs.tar.gz -> $OUT
#   stop                 end it and what it started; `start` goes on from there
#   finish               cells.sh when time runs short: stop, start with STEPS of the newest checkpoint that all cells have
set -euo pipefail
export SITE=${SITE:-/tmp/site} LEASE=${LEASE:-/tmp/gsm8k}
py=${PYTHON:-python3}
. examples/pieces.sh
mkdir -p "$LEASE"/work/{logs,results}
background() { setsid nohup bash -c "$1" < /dev/null > /dev/null 2>&1 & }
if [ -e "$SITE/env.sh" ]; then . "$SITE/env.sh"; fi

part() { keep part "$LEASE"; }

install() {
  join part "$LEASE"
  bash "$LEASE/kit/install.sh" "$LEASE/kit"
  . "$SITE/env.sh"
  for wheel in "$LEASE"/kit/*.whl; do "$py" -m zipfile -e "$wheel" "$SITE"; done
  "$py" -m compileall -q -j "$(nproc)" "$SITE" > "$LEASE/work/logs/compileall.log" 2>&1 || true
  (cd "$LEASE" && sha256sum -c --quiet weights.sha256)
  "$py" "$LEASE/kit/dequantize.py" "$LEASE/weights.gguf" "$LEASE/model/model.safetensors"
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || true
}

start() {
  rm -rf "$LEASE/exit" "$LEASE/code"
  cp -r "examples/${EXAMPLE:-gsm8k}" "$LEASE/code"  # later calls replace the checkout under a running script
  export MODEL=${MODEL:-$LEASE/model} DATA=${DATA:-$LEASE/data} WORK=$LEASE/work
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
  tar -C "$LEASE/work" -cz results | split -d -b 15m - "$LEASE/results.tar.gz."  # the tool takes 16 MiB a file
  mv "$LEASE"/results.tar.gz.* "$out/"  # whole, should the machine's time run out meanwhile
  rm -rf "$LEASE/logs"
  mkdir "$LEASE/logs"
  for log in "$LEASE"/work/logs/*.log "$LEASE"/work/doctor.*; do
    [ -e "$log" ] && tail -c 4000000 "$log" > "$LEASE/logs/$(basename "$log")"
  done
  tar -C "$LEASE" -czf "$out/logs.tar.gz" logs
}

stop() { kill -TERM -- "-$(cat "$LEASE/pid")"; }

finish() {
  local common
  common=$(awk 1 "$LEASE"/work/rl_*/latest_checkpointed_iteration.txt | sort -n | head -n 1)  # without line ends
  echo "evaluating the policies of step $common"
  stop
  STEPS=$common start
}

"$@"
