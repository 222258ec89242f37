# SPDX-License-Identifier: Apache-2.0
"""examples/rollout/step.sh on a CPU: two GRPO steps under a window, beside a run that is there already."""

import json

import pytest
import runs
import torch
from parrot import parrot
from recipes import recipe, write_data

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the presets of a machine without a GPU"),
]
KNOBS = {"CASES": "model:64", "WINDOW": "16", "STEPS": "2", "PROMPTS": "2"}


PARTS = ["timing_s/gen", "timing_s/old_log_prob", "timing_s/update_actor", "timing_s/update_weights", "timing_s/step"]
PARTS += ["actor/perf/max_memory_reserved_gb", "perf/total_num_tokens"]


def test_a_window_beside_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 1200)
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    results = tmp_path / "work" / "results"
    results.mkdir(parents=True)
    there = "".join(json.dumps({"step": i, "data": dict.fromkeys(PARTS, 9.0 / i)}) + "\n" for i in (1, 2))
    (results / "step_model_64_SA.jsonl").write_text(there)
    run = recipe(tmp_path, "run", "../rollout/step.sh", [], **KNOBS)
    assert run.code == 0, run.output[-3000:]
    assert "finished; missing: none" in run.output
    assert "step_model_64_SA:" not in run.output, "complete"

    full, windowed = json.loads((results / "table.json").read_text())
    assert (full["attention"], full["steps"], full["timing_s/step"]) == ("SA", 1, 4.5), "the second step"
    assert (windowed["attention"], windowed["length"], windowed["steps"]) == ("SWA", 64, 1)
    assert windowed["timing_s/step"] > windowed["timing_s/gen"] > 0
    for line in (results / "step_model_64_SWA.jsonl").open():
        assert json.loads(line)["data"]["response_length/min"] == 64, "whatever ends a sequence"
    log = (tmp_path / "work" / "logs" / "step_model_64_SWA.log").read_text()
    assert "both sides see the same window: 16 " in log
    assert "## model, responses of 64 tokens" in (results / "table.md").read_text()
