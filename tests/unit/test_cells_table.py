# SPDX-License-Identifier: Apache-2.0
"""Tables and figure of examples/gsm8k/cells.py: seeds, both kinds of samples, what RL recovered, unfinished cells."""

import gzip
import json

import pytest
from answers import write
from scripts import load

RIGHT = {  # of 10 problems
    "base_in_SA": 3,
    "base_in_SWA": 0,
    "sft_SA_in_SA": 8,
    "sft_SWA_in_SWA": 2,
    "sft_SWA_in_SA": 3,
    "rl_SA_1_in_SA": 8,
    "rl_SWA_1_in_SWA": 6,
    "rl_SWA_2_in_SWA": 7,
    "rl_SWA_1_in_SA": 4,
}


@pytest.fixture
def cells():
    return load("gsm8k/cells.py")


def test_cells(cells, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    for name, right in RIGHT.items():
        write(tmp_path, name, right, samples=1)
    write(tmp_path, "sft_SWA_in_SWA_x4", 2, samples=4)
    for name in ("rl_SWA_1", "rl_SWA_2"):
        steps = [{"step": i, "data": {"timing_s/step": 2.0 * i, "response_length/mean": 5}} for i in (1, 2, 3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    (tmp_path / "sft_SWA.jsonl").write_text('{"step": 1, "data": {"train/loss": 2.5}}\n')
    monkeypatch.setattr("sys.argv", ["cells.py", str(tmp_path)])
    cells.main()

    text = (tmp_path / "table.md").read_text()
    assert "| SA, as released | 1 | 30.0 ± 15.3 | - | 10.0 | 10 |" in text
    assert "| SWA, SFT | 1 | 20.0 ± 13.3 | 10.0 ± 6.7 | 10.0 | 10 |" in text
    assert "| SWA, SFT + RL | 2 | 65.0 ± 15.0 (60.0 to 70.0) | - | 10.0 | 10 |" in text
    assert "| SWA, SFT + RL, put under full attention | 1 | 40.0 ± 16.3 |" in text
    assert "SA, SFT + RL, put under the window" not in text, "not there yet"
    assert "- greedy: RL recovers 75 % [" in text and "+15.0 [" in text
    assert "| SWA, SFT -> SWA, SFT + RL | +45.0 [" in text
    assert "| SA, SFT -> SA, SFT + RL | +0.0 [+0.0, +0.0] | - |" in text
    assert "- greedy: RL changes the gap between SA and SWA by -45.0 [" in text
    assert "- greedy: RL changes what the window costs SWA's own policies by -35.0 [" in text, "10 before, -25 after"
    assert "| rl_SWA_1 | 3 | 4 | - | - | - | - |" in text
    found = json.loads((tmp_path / "table.json").read_text())["gsm8k"]
    assert cells.starts({"openai/gsm8k": found}) == {"SA": 0.8, "SWA": 0.2}
    assert found["recovered, sampled"] is None
    low, high = found["recovered, greedy"]["interval"]
    assert 0.25 < low < 0.75 < high <= 1
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_without_a_gap_there_is_no_share(cells, tmp_path):
    for name in ("sft_SWA_in_SWA", "rl_SWA_1_in_SWA", "rl_SA_1_in_SA"):
        write(tmp_path, name, 5, samples=1)
    page = cells.rows_of(cells.read(tmp_path, sampled=False), {})["gsm8k"]
    assert page["recovered, greedy"]["share"] is None and page["recovered, greedy"]["interval"] is None
    assert not any("recovers" in line for line in cells.table(page))


def test_halves(tmp_path, monkeypatch):
    halves = load("mismatch/halves.py")
    for name, right in {"low_1_SA": 8, "low_2_SA": 6, "low_1_SWA": 5, "low_2_SWA": 5, "random_1_SA": 7}.items():
        write(tmp_path, name, right, samples=1)
    monkeypatch.setattr("sys.argv", ["halves.py", str(tmp_path)])
    halves.main()
    found = json.loads((tmp_path / "halves.json").read_text())
    low, chance = found["rows"]
    assert found["contrasts"] == [], "no half has both attentions but one"
    assert (low["half"], low["SA"]["of_each_seed"], low["gap"]["difference"]) == ("low", [0.8, 0.6], pytest.approx(0.2))
    assert chance["gap"] is None and "SWA" not in chance
    text = (tmp_path / "halves.md").read_text()
    assert "| low | 70.0 ±" in text and "(80.0, 60.0) | 50.0 ±" in text and "| random | 70.0 ±" in text


def test_halves_against_each_other(tmp_path, monkeypatch):
    halves = load("mismatch/halves.py")
    for name, right in {"low_1_SA": 8, "low_1_SWA": 6, "high_1_SA": 7, "high_1_SWA": 2}.items():
        write(tmp_path, name, right, samples=1)
    (tmp_path / "low_1_SA.jsonl").write_text('{"step": 1, "data": {"train/loss": 2.0}}\n')
    monkeypatch.setattr("sys.argv", ["halves.py", str(tmp_path)])
    halves.main()
    (row,) = json.loads((tmp_path / "halves.json").read_text())["contrasts"]
    assert (row["half"], row["less"]) == ("low", "high")
    means = {key: row[key]["difference"] for key in ("SA", "SWA", "gap")}
    assert means == {"SA": pytest.approx(0.1), "SWA": pytest.approx(0.4), "gap": pytest.approx(-0.3)}
    low, high = row["SWA"]["interval"]
    assert 0 < low < 0.4 < high
    assert (tmp_path / "low_1_SA.csv").exists()


def test_contrasts_pair_problems_whatever_their_order(tmp_path):
    halves = load("mismatch/halves.py")
    for name, right in {"low_1_SA": 8, "low_1_SWA": 6, "high_1_SA": 7, "high_1_SWA": 2}.items():
        write(tmp_path, name, right, samples=1)
    ordered = halves.contrasts(halves.read(tmp_path))
    for name in ("low_1_SWA", "high_1_SA"):
        file = tmp_path / f"eval_{name}.jsonl.gz"
        lines = gzip.decompress(file.read_bytes()).decode().splitlines(keepends=True)
        file.write_bytes(gzip.compress("".join(reversed(lines)).encode()))
    (row,), (other,) = ordered, halves.contrasts(halves.read(tmp_path))
    assert row["gap"]["difference"] == pytest.approx(other["gap"]["difference"])
    for key in ("SA", "SWA", "gap"):
        width = [found[key]["interval"][1] - found[key]["interval"][0] for found in (row, other)]
        assert width[0] == pytest.approx(width[1], abs=0.05), key
