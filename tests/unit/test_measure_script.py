# SPDX-License-Identifier: Apache-2.0
"""measure.sh with a stub for Python: what runs on which GPU, what waits for what, and what comes back."""

import os
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUB = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES $*" >> {tmp}/calls
case "$*" in *bench*)
  sleep 0.5
  while [ $# -gt 0 ]; do [ $1 != --out ] || mkdir $2; shift; done
  echo slept >> {tmp}/calls
esac
"""


def test_runs_share_what_gpus_there_are(tmp_path):
    executables = {"nvidia-smi": "#!/bin/sh\necho GPU 0\necho GPU 1\n", "python": STUB.format(tmp=tmp_path)}
    for name, text in executables.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    data = tmp_path / "gsm8k" / "data"
    for folder in (data, tmp_path / "gsm8k" / "work" / "results", tmp_path / "out"):
        folder.mkdir(parents=True)
    for name in ("train", "test"):
        (data / f"{name}.jsonl").write_text("{}\n")
    (tmp_path / "gsm8k" / "work" / "results" / "eval_sft_SA_in_SA.jsonl.gz").touch()
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env |= {"LEASE": str(tmp_path / "gsm8k"), "RUNS": "bench_7b step_SWA mismatch", "PYTHON": str(tmp_path / "python")}
    env |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path / "out"), "SITE": str(tmp_path / "site")}
    for words in (["start"], ["poll", "60"]):
        command = ["bash", "examples/measure.sh", *words]
        run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr
    for name in env["RUNS"].split():
        assert f"{tmp_path / name} exit: " in run.stdout
    calls = (tmp_path / "calls").read_text().splitlines()
    place = {
        kind: next(i for i, call in enumerate(calls) if kind in call) for kind in ("bench 7b", "slept", "mismatch ")
    }
    assert calls[place["bench 7b"]].startswith("0 ") and calls[place["mismatch "]].startswith("0 ")
    last_of_bench = max(i for i, call in enumerate(calls) if call == "slept")
    assert place["mismatch "] > last_of_bench, "they share a GPU"
    steps = [call for call in calls if "main_ppo" in call]
    assert len(steps) == 4 and all(call.startswith("1 ") and "swarr.window=4096" in call for call in steps)
    assert not any("step_7b" in call or "bench 1.5b" in call for call in calls)
    with tarfile.open(tmp_path / "out" / "results.tar.gz.00") as archive:
        assert {"./bench_7b/results/7b", "./mismatch/logs/run.log"} <= set(archive.getnames())
