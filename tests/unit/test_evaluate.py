# SPDX-License-Identifier: Apache-2.0
"""What examples/gsm8k/evaluate.py writes is what its readers read: report, and the quickstart's table."""

import doctest
import json
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import tiny
from scripts import load

from swarr_verl.evaluation import Evaluation

TEXTS = [r"recall \boxed{7}", r"0 \boxed{8}", "neither"]


class Engine:
    """vLLM's `LLM`, which answers TEXTS."""

    def get_tokenizer(self):
        return tiny.tokenizer()

    def generate(self, prompts, sampling, use_tqdm):
        answers = [SimpleNamespace(text=text, token_ids=[1, 2], finish_reason="stop") for text in TEXTS]
        return [SimpleNamespace(outputs=[answer]) for answer in answers]


def test_readers_of_an_evaluation(tmp_path, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    pytest.importorskip("matplotlib")
    parquet = tmp_path / "rl_test.parquet"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{i} + {7 - i}"}],
            "data_source": "toy",
            "reward_model": {"ground_truth": "7"},
        }
        for i in range(len(TEXTS))
    ]
    pd.DataFrame(rows).to_parquet(parquet)
    evaluate = load("gsm8k/evaluate.py")
    assert doctest.testmod(evaluate).failed == 0
    monkeypatch.setattr(evaluate, "build", lambda args: (Engine(), [14]))
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "MODEL", str(parquet), str(tmp_path / "eval_rl")])
    evaluate.main()

    run = Evaluation.read("rl", tmp_path / "eval_rl.jsonl.gz")
    assert len(run.problems) == 3 and json.loads((tmp_path / "eval_rl.json").read_text())["accuracy"] == 1 / 3
    row = load("quickstart/report.py").row(tmp_path, "rl", "SWA after RL")
    assert row["model"] == "SWA after RL" and row["recall_share"] == 1 / 3 and row["window"] == 14
