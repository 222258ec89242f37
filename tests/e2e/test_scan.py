# SPDX-License-Identifier: Apache-2.0
"""examples/gsm8k/scan.sh on a CPU: a model that is right at times, 2 steps of SFT a cell; then once more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import runs
import torch
from parrot import parrot

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the presets of a machine without a GPU"),
]
SCRIPT = Path(__file__).parents[2] / "examples" / "gsm8k" / "scan.sh"
ROWS = 8
CELLS = ["base_SA", "rationales_SA", "rationales_W16", "selfdistill_math_SA", "selfdistill_math_W16"]


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


def scan(folder: Path, name: str) -> runs.Run:
    knobs = {
        **{"MODEL": str(folder / "model"), "DATA": str(folder / "data"), "WORK": str(folder / "work")},
        **{"SOURCES": "rationales selfdistill_math", "WINDOWS": "16", "LIMIT": str(ROWS), "RESPONSE": "32"},
        **{"BATCH": "4", "EPOCHS": "1", "TIMEOUT": "5m", "JOBS": "2", "PYTHON": sys.executable},
    }
    with (folder / f"{name}.log").open("w") as log:
        command = ["bash", str(SCRIPT), "trainer.total_training_steps=2"]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **knobs}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True)
    return runs.finish(process, folder, name)


def test_scan(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 800)  # 11 stages; 190 s on two idle cores
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    first = scan(tmp_path, "first")
    assert first.code == 0, first.output[-3000:]
    assert "finished; missing: none" in first.output

    results = tmp_path / "work" / "results"
    for name in CELLS:
        row = json.loads((results / f"eval_{name}.json").read_text())
        assert (row["n"], row["window"]) == (2 * ROWS, 16 if name.endswith("W16") else None)
        assert not (tmp_path / "work" / name).exists(), "weights"
    for name in CELLS[1:]:
        assert (results / f"{name}.csv").read_text().count("\n") == 3, "2 steps"
    for name in ("gsm8k", "math"):
        learned = parquet.read_table(results / f"drawn_{name}.parquet").to_pylist()
        assert learned and all(r"\boxed{7}" in row["messages"][-1]["content"] for row in learned)
    levels = [json.loads(line)["level"] for line in (tmp_path / "work/data/math_train.jsonl").read_text().splitlines()]
    assert len(levels) == ROWS and "Level 5" not in levels
    tables = json.loads((results / "table.json").read_text())
    assert [f"{row['source']}_{'W16' if row['window'] else 'SA'}" for row in tables["openai/gsm8k"]] == CELLS

    written = {file: file.stat().st_mtime_ns for file in results.glob("eval_*")}
    again = scan(tmp_path, "again")
    assert again.code == 0, again.output[-3000:]
    assert "sft" not in again.output and "draw" not in again.output
    assert written == {file: file.stat().st_mtime_ns for file in results.glob("eval_*")}
