# SPDX-License-Identifier: Apache-2.0
"""Stands in for Python in contest.sh: notes what it is called with in ./calls, and leaves what the program would."""

import json
import os
import sys
from pathlib import Path

from answers import write

CONVERTED = {"SA": 8, "rationales": 2, "own": 3, "low": 5, "distill": 6, "both": 4, "after": 7}
RIGHT = CONVERTED | {"rl_SA": 9, "rl_low": 6, "rl_distill": 8}
PREPARED = {
    "gsm8k": "rl_train.parquet",
    "selfdistill": "sft.parquet",
    "ranked": "sft.parquet",
    "mismatch": "mismatch.md",
}


def evaluate(result: Path) -> None:
    name = result.name.removeprefix("eval_")
    write(result.parent, name, RIGHT[name], samples=1)
    row = {"accuracy": RIGHT[name] / 10, "n": 10}
    result.with_suffix(".json").write_text(json.dumps(row, indent=1))


def train(folder: Path, step: str, model: str) -> None:
    """A checkpoint that is the model itself."""
    saved = folder / f"global_step_{step}"
    saved.mkdir(parents=True)
    (saved / "huggingface").mkdir()
    for file in Path(model).iterdir():
        (saved / "huggingface" / file.name).symlink_to(file)
    (folder / "latest_checkpointed_iteration.txt").write_text(step)
    print("Epoch 1/1000: 1/1 [40.00<")


def main(words: list[str]) -> None:
    with open("calls", "a") as calls:
        calls.write(json.dumps({"words": words, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}) + "\n")
    keys = dict(word.split("=", 1) for word in words if "=" in word)
    if words[0].endswith("contest.py"):
        os.execv(sys.executable, [sys.executable, *words])
    elif words[0].endswith("evaluate.py"):
        evaluate(Path(words[words.index("--engine") - 1]))
    elif "--out" in words:
        out, kind = Path(words[words.index("--out") + 1]), next(kind for kind in PREPARED if kind in words)
        out.mkdir(parents=True, exist_ok=True)
        (out / PREPARED[kind]).write_text("made")
        (out / "mismatch.json").write_text("{}")
    elif folder := keys.get("trainer.default_local_dir"):
        model = keys.get("model.path") or keys["actor_rollout_ref.model.path"]
        train(Path(folder), keys["trainer.total_training_steps"], model)


if __name__ == "__main__":
    main(sys.argv[1:])
