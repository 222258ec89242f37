# SPDX-License-Identifier: Apache-2.0
"""examples/gsm8k/cells.sh on a CPU: one cell, 2 SFT steps under each of two windows, 2 GRPO steps; then once more."""

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
KNOBS = {"CELLS": "SWA_3", "WINDOW": "16", "STEPS": "2", "PROMPTS": "4", "SAMPLES": "2", "JOBS": "1"}
KNOBS["CURRICULUM"] = "24"
WIDE = 1024 + 32
STATES = {  # and the window that each is evaluated under
    **{"base_in_SA": WIDE, "base_in_SWA": 16, "sft_SWA_in_SWA": 16, "sft_SWA_in_SA": WIDE},
    **{"rl_SWA_3_in_SWA": 16, "rl_SWA_3_in_SA": WIDE},
}


def test_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 1800)
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    first = recipe(tmp_path, "first", "cells.sh", [], **KNOBS)
    assert first.code == 0, first.output[-3000:]
    assert "finished; missing: none" in first.output

    results = tmp_path / "work" / "results"
    for name, window in STATES.items():
        for suffix, samples in (("", 1), ("_x2", 2)):
            row = json.loads((results / f"eval_{name}{suffix}.json").read_text())
            assert (row["n"], row["window"], row["samples"]) == (2 * ROWS, window, samples), name
    for name in ("sft_24", "sft_SWA", "rl_SWA_3"):
        steps = (results / f"{name}.csv").read_text().splitlines()[1:]
        assert [line.split(",")[0] for line in steps][-2:] == ["1", "2"]
    assert not (tmp_path / "work" / "rl_SWA_3").exists(), "weights"
    starts = [(tmp_path / "work" / "logs" / f"{name}.log").read_text() for name in ("sft_24", "sft_SWA")]
    assert "/from_24_16" in starts[1] and "/from_" not in starts[0]
    table = json.loads((results / "table.json").read_text())["openai/gsm8k"]
    trained = [row for state in ("SWA, SFT", "SWA, SFT + RL") for row in (state, f"{state}, put under full attention")]
    assert list(table["rows"])[2:] == trained
    assert (results / "curves.png").exists()

    again = recipe(tmp_path, "again", "cells.sh", [], **KNOBS)
    assert again.code == 0, again.output[-3000:]
    assert not any(f"] {stage}" in again.output for stage in ("sft", "rl", "eval")), again.output[-3000:]
