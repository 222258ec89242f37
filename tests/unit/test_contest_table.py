# SPDX-License-Identifier: Apache-2.0
"""Table of examples/mismatch/contest.py: minutes, shares of the gap, RL against full attention; what is missing."""

import doctest
import json
from pathlib import Path

import pytest
from answers import write
from scripts import load

RIGHT = {"SA": 8, "rationales": 2, "own": 5, "distill": 6, "both": 7, "after": 8}  # of 10 problems
RIGHT |= {"rl_SA": 9, "rl_distill": 7}
BARS = "Epoch 1/1000: 1/2 [20.00<\nEpoch 1/1000: 2/2 [40.00<\n"


@pytest.fixture
def contest():
    return load("mismatch/contest.py")


def log(results: Path, name: str, key: str, values: list[float]) -> None:
    lines = [{"step": step, "data": {key: value}} for step, value in enumerate(values, 1)]
    (results / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_contest(contest, tmp_path, monkeypatch):
    assert doctest.testmod(contest).failed == 0
    for name, right in RIGHT.items():
        write(tmp_path, name, right, samples=1)
    for name in ("SA", "rationales", "own", "half"):
        log(tmp_path, name, "train/loss", [2.0, 1.0])
        (tmp_path / f"{name}_bars.txt").write_text(BARS + BARS.replace("Epoch 1/", "Epoch 2/"))
    (tmp_path / "draw.seconds").write_text("180\n")
    log(tmp_path, "distill", "timing_s/step", [12.0, 18.0])
    log(tmp_path, "both", "timing_s/step", [15.0])
    log(tmp_path, "after", "timing_s/step", [45.0])
    log(tmp_path, "rl_SA", "timing_s/step", [60.0, 90.0, 30.0])
    (tmp_path / "eval_rl_SA.json").write_text('{"model": "work/rl_SA/global_step_2/actor/huggingface"}')
    monkeypatch.setattr("sys.argv", ["contest.py", str(tmp_path)])
    contest.main()

    reference, start, own, distill, both, after = rows = json.loads((tmp_path / "contest.json").read_text())
    assert [row["name"] for row in rows] == ["SA", "rationales", "own", "distill", "both", "after"]
    assert start["minutes"] == pytest.approx(80 / 60) and start["preparing"] is None
    assert (own["preparing"], distill["preparing"]) == (3, start["minutes"]), "drawing; the teacher"
    assert distill["minutes"] == 1, "30 s on two GPUs"
    assert both["minutes"] == pytest.approx(80 / 60 + 0.5) and both["preparing"] == distill["preparing"]
    assert after["minutes"] == pytest.approx(start["minutes"] + 1.5) and after["preparing"] == start["minutes"]
    assert reference["rl"]["minutes"] == 2.5 and distill["rl"]["minutes"] is None
    assert own["closed"]["share"] == pytest.approx(0.5) and distill["closed"]["share"] == pytest.approx(4 / 6)
    low, high = own["closed"]["interval"]
    assert 0 <= low < 0.5 < high <= 1
    assert distill["rl"]["to_reference"]["difference"] == pytest.approx(-0.2)
    text = (tmp_path / "contest.md").read_text()
    assert "| SFT on rationales | 1.3 | - | 20.0 ± 13.3 | - | - | - | - |" in text
    assert "| on-policy distillation | 1.0 | 1.3 | 60.0 ± 16.3 | 67 [" in text
    assert "] | - | 70.0 ± 15.3 | -20.0 [-50.0, +0.0] |" in text
    assert (tmp_path / "distill.csv").read_text() == "step,timing_s/step\n1,12.0\n2,18.0\n"


def test_without_a_gap_there_is_no_share(contest, tmp_path):
    for name, right in {"SA": 3, "rationales": 3, "own": 5}.items():
        write(tmp_path, name, right, samples=1)
    own = contest.rows_of(tmp_path)[-1]
    assert own["closed"]["share"] is None and own["minutes"] is None
    assert "| SFT on own right answers | - | - | 50.0 ± 16.7 | - | - | - | - |" in contest.table([own])


def test_without_an_end_of_the_gap_there_is_none(contest, tmp_path):
    for name in ("rationales", "own", "rl_own"):
        write(tmp_path, name, 5, samples=1)
    own = contest.rows_of(tmp_path)[-1]
    assert "closed" not in own and "to_reference" not in own["rl"]
