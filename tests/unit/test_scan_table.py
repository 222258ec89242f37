# SPDX-License-Identifier: Apache-2.0
"""Tables and figure of examples/gsm8k/scan.py, of an unfinished scan."""

import doctest
import gzip
import json
from pathlib import Path

import pytest
from scripts import load

RIGHT = {"base_SA": 4, "rationales_SA": 8, "rationales_W96": 7, "rationales_W16": 2, "selfdistill_W16": 5}  # of 10


@pytest.fixture
def scan():
    return load("gsm8k/scan.py")


def write(results: Path) -> None:
    for name, right in RIGHT.items():
        lines = [
            {"uid": f"{10 * test + i}_0_0", "data_source": source, "input": str(i), "gts": "7", "pred": "7"}
            | {"acc": float(test == 0 and i < right), "tokens": i, "truncated": i == 9, "output": ""}
            for test, source in enumerate(("gsm8k", "math500"))
            for i in range(10)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (results / f"eval_{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    steps = [{"step": i, "data": {"train/loss": 9.0 if i == 1 else 2.5}} for i in range(1, 22)]
    (results / "rationales_SA.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def test_unfinished_scan(scan, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    assert doctest.testmod(scan).failed == 0
    write(tmp_path)
    monkeypatch.setattr("sys.argv", ["scan.py", str(tmp_path)])
    scan.main()

    gsm8k, math500 = (tmp_path / "table.md").read_text().split("## ")[1:]
    assert [line.split(" | ")[:2] for line in gsm8k.splitlines()[4:]][:5] == [
        ["| none, as released", "none"],
        ["| GSM8K's rationales", "none"],
        ["| GSM8K's rationales", "16"],
        ["| GSM8K's rationales", "96"],
        ["| own right answers, GSM8K", "16"],
    ]
    assert "| 80.0 ± 13.3 | - | 10.0 | 4 | 2.50 |" in gsm8k, "of the last 20 steps"
    assert "| 40.0 ± 16.3 | - | 10.0 | 4 | - |" in gsm8k
    assert "| 20.0 ± 13.3 | +60.0 [+30.0, +90.0] |" in gsm8k
    assert "| own right answers, GSM8K | 16 | 50.0 ± 16.7 | - |" in gsm8k, "no full attention to compare with"
    assert "| 0.0 ± 0.0 | +0.0 [+0.0, +0.0] |" in math500
    rows = json.loads((tmp_path / "table.json").read_text())["gsm8k"]
    assert [(row["source"], row["window"]) for row in rows[:2]] == [("base", None), ("rationales", None)]
    assert rows[2]["gap"]["better"] == 6 and rows[2]["gap"]["worse"] == 0
    assert (tmp_path / "rationales_SA.csv").read_text().startswith("step,train/loss\n1,9.0\n2,2.5\n")
    assert (tmp_path / "accuracy.png").stat().st_size > 1000
