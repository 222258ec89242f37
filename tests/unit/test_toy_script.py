# SPDX-License-Identifier: Apache-2.0
"""toy.sh with a stub for Python: each loss from each start is one that verl accepts, and what was answered is read."""

import os
import shutil
import subprocess
import sys

from contests import accepted, calls, trained
from scripts import EXAMPLES

STUB = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps({{"words": sys.argv[1:]}}) + "\\n")
"""
LOSSES = {"distill": "k1", "ahead": "swarr_k1_to_go", "topk": "forward_kl_topk"}


def test_what_it_runs(tmp_path, checkpoint, data):
    for example in ("quickstart", "mismatch", "gsm8k"):
        shutil.copytree(
            EXAMPLES / example, tmp_path / "examples" / example, ignore=shutil.ignore_patterns("work", "results")
        )
    (tmp_path / "examples" / "setup_cpu.sh").write_text("")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "torchrun"):
        (tmp_path / ".venv" / "bin" / name).write_text(STUB)
        (tmp_path / ".venv" / "bin" / name).chmod(0o755)
    env = os.environ | {"CALLS": str(tmp_path / "calls"), "WORK": str(tmp_path / "work")}
    script = tmp_path / "examples" / "mismatch" / "toy.sh"
    run = subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr

    made, stages = [call["words"] for call in calls(tmp_path)], trained(calls(tmp_path))
    folders = {start: tmp_path / "work" / name for start, name in {"sft": "sft", "sa": "pretrain"}.items()}
    for folder in folders.values():
        assert f"trainer.default_local_dir={folder}" in stages[folder.name]["words"]
    assert stages.keys() == {"pretrain", "sft", "rl"} | {f"{loss}_{start}" for loss in LOSSES for start in folders}
    for loss, mode in LOSSES.items():
        for start, folder in folders.items():
            call = stages[f"{loss}_{start}"]["words"]
            (student,) = (word for word in call if word.startswith("actor_rollout_ref.model.path="))
            (teacher,) = (word for word in call if word.startswith("distillation.teacher_models"))
            assert f"={folder}/" in student and f"={folders['sa']}/" in teacher
            config = accepted(call, data, checkpoint)
            assert config.distillation.distillation_loss.loss_mode == mode and config.swarr.window == 14
    (need,) = (call for call in made if "mismatch" in call)
    answered = {word for call in made for word in call if call[0].endswith("evaluate.py") and word.startswith("eval_")}
    assert {word.removesuffix(".jsonl.gz") for word in need if word.startswith("eval_")} == answered
    assert made[-1][0].endswith("toy.py")
