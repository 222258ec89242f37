# SPDX-License-Identifier: Apache-2.0
"""examples/gsm8k/scan.sh on a CPU: a model that is right at times, 2 steps of SFT a cell; then once more."""

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import runs
import torch
from parrot import parrot
from recipes import ROWS, recipe, write_data

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the presets of a machine without a GPU"),
]
CELLS = ["base_SA", "rationales_SA", "rationales_W16", "selfdistill_math_SA", "selfdistill_math_W16"]


def scan(folder: Path, name: str) -> runs.Run:
    knobs = {"SOURCES": "rationales selfdistill_math", "WINDOWS": "16"}
    return recipe(folder, name, "scan.sh", ["trainer.total_training_steps=2"], **knobs)


def test_scan(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 1800)  # 11 stages; 190 to 280 s on two idle cores
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
