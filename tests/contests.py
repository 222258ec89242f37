# SPDX-License-Identifier: Apache-2.0
"""What contest.sh and contest_lease.sh call Python for, with a stub in its place."""

import json
import os
import sys
from pathlib import Path

import contest_stub
from omegaconf import DictConfig
from trees import changed, tree

from swarr_verl.preflight import check

WEIGHTS = (
    "actor_rollout_ref.model.path",
    "distillation.teacher_models.teacher_model.model_path",
    "swarr.need.model",
)


def environment(folder: Path, rows: Path, smi: str, first: str = "") -> dict[str, str]:
    """Of a script: the stub for Python, behind a line of shell; a nvidia-smi that says `smi`; GSM8K in `rows`."""
    stub = f'#!/bin/sh\n{first}\nexec "{sys.executable}" "{contest_stub.__file__}" "$@"'
    for name, text in {"nvidia-smi": f"#!/bin/sh\n{smi}", "stub": stub}.items():
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o755)
    rows.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        (rows / f"{name}.jsonl").write_text("{}\n")
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return env | {"PYTHON": str(folder / "stub"), "PATH": f"{folder}:{os.environ['PATH']}"}


def calls(work: Path) -> list[dict]:
    """All of them, in order."""
    return [json.loads(line) for line in (work / "calls").read_text().splitlines()]


def trained(calls: list[dict]) -> dict[str, dict]:
    """The trainings, by their name."""
    key = "trainer.experiment_name="
    names = [next((word.removeprefix(key) for word in call["words"] if word.startswith(key)), None) for call in calls]
    return {name: call for name, call in zip(names, calls, strict=True) if name}


def accepted(words: list[str], data: Path, checkpoint: Path) -> DictConfig:
    """The config of a call of main_ppo, by verl's checks and the plugin's; its own weights went with the stages."""
    overrides = [word for word in words[words.index("verl.trainer.main_ppo") + 1 :] if not word.startswith("hydra.")]
    weights = [f"{key}={checkpoint}" for key in WEIGHTS if any(word.startswith(f"{key}=") for word in words)]
    files = [f"data.{kind}_files={data}/rl_{kind}.parquet" for kind in ("train", "val")]
    config = changed(tree("rl", *overrides), *files, *weights)
    check(config)
    return config
