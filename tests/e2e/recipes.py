# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/gsm8k, run on a CPU with a few rows of toy data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import runs

FOLDER = Path(__file__).parents[2] / "examples" / "gsm8k"
ROWS = 8


def write_data(folder: Path) -> None:
    """Two test sets and two train sets with the columns of the originals; the answer is always 7."""
    folder.mkdir()
    sums = [f"{i} + {7 - i}" for i in range(4 * ROWS)]
    gsm8k = [{"question": f"What is {one}?", "answer": f"It is {one} = <<{one}=7>>7.\n#### 7"} for one in sums]
    math = [{"problem": f"${one}$", "solution": r"It is $\boxed{7}$", "answer": "7"} for one in sums]
    for i, row in enumerate(math):
        row["level"] = f"Level {i % 5 + 1}"
    files = {"train": gsm8k[ROWS:], "test": gsm8k[:ROWS], "math_train": math[ROWS:], "math500": math[:ROWS]}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(folder: Path, name: str, script: str, overrides: list[str], **knobs: str) -> runs.Run:
    """Run a script on folder/model and folder/data, in folder/work; console to NAME.log."""
    paths = {key.upper(): str(folder / key) for key in ("model", "data", "work")}
    small = {"LIMIT": str(ROWS), "RESPONSE": "32", "BATCH": "4", "EPOCHS": "1", "TIMEOUT": "15m", "JOBS": "2"}
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHON": sys.executable}

    def attempt() -> runs.Run:
        with (folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                ["bash", str(FOLDER / script), *overrides],
                **{"stdout": log, "stderr": log, "cwd": folder, "start_new_session": True},
                env={**env, **paths, **small, **knobs},
            )
        return runs.finish(process, folder, name)

    found = attempt()
    stages = (folder / "work" / "logs").glob("*.log")
    slow = any(runs.RAY_TOO_SLOW in log.read_text(errors="replace") for log in stages)
    return attempt() if found.code and slow else found
