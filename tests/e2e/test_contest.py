# SPDX-License-Identifier: Apache-2.0
"""examples/mismatch/contest.sh on a CPU: a conversion and a step of RL from it, beside full attention; then once more.

Distillation takes minutes to start: test_distillation.py runs it; unit/test_contest_script.py checks its settings here.
"""

import json

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
KNOBS = {"CONVERSIONS": "rationales", "BEST": "1", "WINDOW": "16", "PROMPTS": "4", "SFT_STEPS": "3", "STEPS": "1"}


def test_contest(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 1800)
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    first = recipe(tmp_path, "first", "../mismatch/contest.sh", [], **KNOBS)
    assert first.code == 0, first.output[-3000:]
    assert "finished; missing: none" in first.output

    work = tmp_path / "work"
    rows = {row["name"]: row for row in json.loads((work / "results" / "contest.json").read_text())}
    assert list(rows) == ["SA", "rationales"]
    for name, row in rows.items():
        assert row["problems"] == row["rl"]["problems"] == ROWS, name
        assert row["minutes"] > 0 and row["rl"]["minutes"] > 0, name
    windows = {"SA": None, "rationales": 16, "rl_SA": 1024 + 32, "rl_rationales": 16}
    for name, window in windows.items():
        assert json.loads((work / f"results/eval_{name}.json").read_text())["window"] == window, name
    for name, steps in {"SA": 3, "rationales": 3, "rl_SA": 1, "rl_rationales": 1}.items():
        assert (work / "results" / f"{name}.csv").read_text().splitlines()[-1].split(",")[0] == str(steps), name
    served = json.loads((work / "results" / "served.json").read_text())["rows"]
    assert {"rationales", "eval_SA", "eval_rationales"} <= served.keys()
    assert all("gap" in row for row in served.values()), served
    assert not list(work.glob("*/global_step_*")), "weights"

    again = recipe(tmp_path, "again", "../mismatch/contest.sh", [], **KNOBS)
    assert again.code == 0, again.output[-3000:]
    assert not any(f"] {stage}" in again.output for stage in ("sft", "rl", "distill", "eval")), again.output[-3000:]
