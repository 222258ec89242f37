# SPDX-License-Identifier: Apache-2.0
"""examples/mismatch/contest.sh on a CPU: two conversions, a step of RL from the better one; then once more."""

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
KNOBS = {"CONVERSIONS": "distill rationales", "BEST": "1", "WINDOW": "16", "PROMPTS": "4"}
KNOBS |= {"SFT_STEPS": "3", "DISTILL_STEPS": "2", "STEPS": "1"}
WIDE = 1024 + 32


def test_contest(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 1800)
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    first = recipe(tmp_path, "first", "../mismatch/contest.sh", [], **KNOBS)
    assert first.code == 0, first.output[-3000:]
    assert "finished; missing: none" in first.output

    work = tmp_path / "work"
    rows = {row["name"]: row for row in json.loads((work / "results" / "contest.json").read_text())}
    assert list(rows) == ["SA", "rationales", "distill"]
    for name, row in rows.items():
        assert row["problems"] == ROWS and row["minutes"] > 0, name
    assert rows["distill"]["preparing"] == rows["SA"]["minutes"], "its teacher"
    better = max(("distill", "rationales"), key=lambda name: rows[name]["accuracy"]["mean@1"][0])  # a tie: the first
    assert {name for name, row in rows.items() if "rl" in row} == {"SA", better}
    for name in ("SA", better):
        assert rows[name]["rl"]["problems"] == ROWS and rows[name]["rl"]["minutes"] > 0, name
    windows = {
        name: json.loads((work / f"results/eval_{name}.json").read_text())["window"] for name in ("SA", "distill")
    }
    assert windows == {"SA": None, "distill": 16}
    for name, window in (("SA", WIDE), (better, 16)):
        assert json.loads((work / f"results/eval_rl_{name}.json").read_text())["window"] == window
    for name, steps in {"SA": 3, "rationales": 3, "distill": 2, "rl_SA": 1}.items():
        assert (work / "results" / f"{name}.csv").read_text().splitlines()[-1].split(",")[0] == str(steps), name
    assert not [folder.name for folder in work.iterdir() if list(folder.glob("global_step_*"))], "weights"

    again = recipe(tmp_path, "again", "../mismatch/contest.sh", [], **KNOBS)
    assert again.code == 0, again.output[-3000:]
    assert not any(f"] {stage}" in again.output for stage in ("sft", "rl", "distill", "eval")), again.output[-3000:]
