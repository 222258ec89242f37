# SPDX-License-Identifier: Apache-2.0
"""Table of examples/mismatch/toy.py."""

import gzip
import json

from scripts import load


def test_table(tmp_path, monkeypatch, capsys):
    toy = load("mismatch/toy.py")
    found = {"nll": 0.5, "need": [1.0, 0.5, 1.5], "gap": [-0.25, -0.5, 0.0]}
    ran = [name for name in toy.LABELS if not name.startswith("mean_")]
    files = {"sft": found | {"need": [2.0, 1.9, 2.1]}} | {f"eval_{name}": found for name in ran}
    (tmp_path / "need").mkdir()
    (tmp_path / "need" / "mismatch.json").write_text(json.dumps({"rows": files}))
    judged = {"window": 14, "accuracy": 0.5, "stderr": 0.1, "n": 4, "mean_tokens": 50}
    outputs = [
        "recall a : 0 + a4 = 4",
        "0 + a4 = 4 left b1 c0 d3 e2 f2",
        "recall a : 0 + a1 = 1",
        "recall a : 0 + a2 = 2",
    ]
    lines = "".join(json.dumps({"output": output}) + "\n" for output in outputs)
    for name in ran:
        (tmp_path / f"eval_{name}.json").write_text(json.dumps(judged))
        (tmp_path / f"eval_{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name in set(ran) & set(toy.TRAINED):
        (tmp_path / f"{name}.jsonl").write_text('{"step": 1, "data": {"critic/score/mean": 0.5}}\n')
    monkeypatch.setattr("sys.argv", ["toy.py", str(tmp_path)])
    toy.main()
    text = (tmp_path / "toy.md").read_text()
    assert "| the SFT data |  |  | 0.500 | 2.000 [1.900, 2.100] | -0.250 [-0.500, 0.000] |" in text
    assert "| window, SFT + RL | 0.500 ± 0.100 | 0.75 | 0.500 | 1.000 [0.500, 1.500] | -0.250 [-0.500, 0.000] |" in text
    assert capsys.readouterr().out == text
    assert (tmp_path / "toy.png").stat().st_size > 5_000
    assert len(json.loads((tmp_path / "toy.json").read_text())) == 1 + len(ran)
