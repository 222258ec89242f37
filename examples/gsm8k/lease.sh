#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on the GPU machine without a network, from the checkout's root, over what stage.sh laid out. README has the order.
#   part                 a piece of it: once with each
#   install              after the last: stack and this package -> $SITE; weights dequantised; model, data, work -> $LEASE
#   start [overrides]    $SCRIPT (run.sh) of examples/$EXAMPLE (gsm8k) in the background; its knobs from the environment
#   poll [SECONDS]       wait for it, at most so long; print where it stands; collect
#   collect              results/ and logs/ as results.tar.gz.00, .01, ... (one file, cut up) -> $OUT
#   stop                 end it and what it started; `start` goes on from there
#   finish               cells.sh when time runs short: stop, start with STEPS of the newest checkpoint that all cells have
# Several scripts: each has a LEASE of its own, and MODEL and DATA of that of `install`; it starts once all those of AFTER
# have ended. `poll` and `collect` take all that ALL names; the file then has a folder for each.
set -euo pipefail
export SITE=${SITE:-/tmp/site} LEASE=${LEASE:-/tmp/gsm8k}
ALL=${ALL:-$LEASE}
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
  background "echo \$\$ > $LEASE/pid; for one in ${AFTER:-}; do until [ -e \$one/exit ]; do sleep 1; done; done
    bash $LEASE/code/${SCRIPT:-run.sh} ${*@Q} >> $LEASE/work/logs/run.log 2>&1; \
    echo \$? > $LEASE/exit"
}

running() { for one in $ALL; do if [ ! -e "$one/exit" ]; then return; fi; done; return 1; }

poll() {
  local one log end=$((SECONDS + ${1:-0})) lines=12
  while running && [ $SECONDS -lt $end ]; do sleep 2; done
  if [[ $ALL == *' '* ]]; then lines=3; fi
  for one in $ALL; do
    echo "$one exit: $(cat "$one/exit" 2>/dev/null || echo running)"
    tail -n $lines "$one/work/logs/run.log" 2> /dev/null | tr '\r' '\n' | tail -n $lines | cut -c1-300 || true
    if [ -e "$one/code/progress.py" ]; then "$py" "$one/code/progress.py" "$one/work/results" || true; fi
    if [ "$(cat "$one/exit" 2>/dev/null || echo 0)" != 0 ]; then  # what failed is what was written to last
      for log in $(ls -t "$one"/work/logs/*.log | head -n 2); do echo "== $log"; tail -n 40 "$log" | cut -c1-300; done
    fi
  done
  nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader || true
  collect
}

collect() {
  local one log to out=${OUT:?is set by the tool} all=$LEASE/all
  rm -rf "$all"
  for one in $ALL; do
    if [ ! -d "$one/work" ]; then continue; fi  # not begun
    to=$all
    if [[ $ALL == *' '* ]]; then to=$all/$(basename "$one"); fi
    mkdir -p "$to/logs"
    ln -s "$one/work/results" "$to/results"
    for log in "$one"/work/logs/*.log "$one"/work/doctor.*; do
      if [ -e "$log" ]; then tail -c 4000000 "$log" > "$to/logs/$(basename "$log")"; fi
    done
  done
  # Files that grow meanwhile are taken as they are. The tool takes 16 MiB a file.
  { tar -C "$all" -chz . || [ $? = 1 ]; } | split -d -b 15m - "$LEASE/results.tar.gz."
  mv "$LEASE"/results.tar.gz.* "$out/"  # whole, should the machine's time run out meanwhile
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
