# SPDX-License-Identifier: Apache-2.0
"""Every training solution of GSM8K and MATH is right by the reward, and with another answer it is wrong."""

from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = next((d for folder in ROOT.parents if (d := folder / "shared/data").exists()), None)


@pytest.mark.skipif(DATA is None, reason="shared/data is not above the checkout; examples/reward/gold.py reads the hub")
def test_gold_answers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "reward")
    from gold import run, swarr_path
    from samples import load

    samples = load(Namespace(gsm8k=DATA / "gsm8k/train.jsonl", math=DATA / "math/train.jsonl", limit=None))
    results, failures = run(samples, swarr_path)
    for data, n in (("gsm8k", 7473), ("math", 7500)):
        rates = results["rates"][data]
        assert rates["n"] == n
        assert rates["right"] >= 0.995, failures
        assert rates["altered_wrong"] >= 0.999, failures
