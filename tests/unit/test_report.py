# SPDX-License-Identifier: Apache-2.0
"""Statistics of evaluations against brute force and by hand; the report of written dumps."""

import gzip
import itertools
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarr_verl.__main__ import main
from swarr_verl.evaluation import Evaluation, EvaluationError, difference, disagreements, summary, with_error

GRID = st.integers(1, 6).flatmap(lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=2))


def run(grid: list[list[bool]], name: str = "run", preds=None) -> Evaluation:
    """Problems by samples, right or wrong."""
    return Evaluation(
        name,
        {
            (f"q{i}", "1", 0): [
                {"acc": float(right), "pred": preds[i][j] if preds else "1" if right else "0", "tokens": 10 * j + 1}
                for j, right in enumerate(row)
            ]
            for i, row in enumerate(grid)
        },
    )


def dump(path, grid, tokens=True, source=None):
    lines = []
    for i, row in enumerate(grid):
        for j, right in enumerate(row):
            said = "7" if right else "8"
            line = {"input": f"q{i}", "output": f"\\boxed{{{said}}}", "gts": "7", "acc": float(right), "pred": said}
            more = {"tokens": 10 + i + j, "truncated": j == 0} if tokens else {}
            more |= {} if source is None else {"data_source": source}
            lines.append(line | more | {"uid": f"{i:04d}-abc_{j}_0", "score": float(right), "step": 0})
    random.Random(0).shuffle(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@given(GRID)
@settings(deadline=None)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(grid):
    found = run(grid)
    for k in range(1, found.k + 1):
        wanted = [np.mean([any(pick) for pick in itertools.combinations(row, k)]) for row in grid]
        assert found.pass_at(k) == pytest.approx(wanted)
    assert found.pass_at(1) == pytest.approx(found.mean_at_k())


def test_majority_of_the_answers():
    grid = [[True, False, False], [True, True, False], [False, False, True], [True, False, False], [False] * 3]
    preds = [["7", "8", "8"], ["7", "7", "8"], ["1", "2", "7"], ["7", "", ""], ["", "", ""]]
    assert run(grid, preds=preds).maj_at_k() == pytest.approx([0, 1, 1 / 3, 1, 0])


def test_errors_are_over_problems():
    """Eight equal samples a problem say no more than one."""
    once, eightfold = run([[True], [False], [True], [True]]), run([[a] * 8 for a in (True, False, True, True)])
    assert summary(once)["accuracy"]["mean@1"] == summary(eightfold)["accuracy"]["mean@8"]
    assert with_error(once.mean_at_k())[1] == pytest.approx(math.sqrt(0.75 * 0.25 / 3))


def test_paired_difference():
    random.seed(0)
    base = [[random.random() < 0.5] for _ in range(400)]
    better = [[row[0] or i % 10 == 0] for i, row in enumerate(base)]
    found = difference(run(better, "ours"), run(base, "theirs"))
    low, high = found["interval"]
    gained = sum(b[0] != a[0] for a, b in zip(base, better, strict=True))
    assert found["better"] == gained and found["worse"] == 0
    assert found["difference"] == pytest.approx(gained / 400)
    error = math.sqrt(found["difference"] * (1 - found["difference"]) / 400)
    assert low == pytest.approx(found["difference"] - 1.96 * error, abs=0.006)
    assert high == pytest.approx(found["difference"] + 1.96 * error, abs=0.006)
    assert difference(run(base), run(base))["interval"] == [0, 0]


def test_report_of_dumps(tmp_path, capsys):
    grid = [[i % 3 == 0, i % 2 == 0] for i in range(30)]
    dump(tmp_path / "a.jsonl", grid)
    (tmp_path / "b").mkdir()
    dump(tmp_path / "b" / "0.jsonl", [[True, right] for _, right in grid])
    out = tmp_path / "out"
    assert main(["report", f"SA={tmp_path}/a.jsonl", f"{tmp_path}/b", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text == (out / "report.md").read_text()
    assert "| SA | 30 | 41.7 ± " in text and "| b | 30 | 75.0 ± " in text and "| 50.0 |" in text
    assert "- b - SA: +33.3 [" in text and "20 problems better, 0 worse" in text
    assert "judges otherwise: SA 0 of 60, b 0 of 60" in text
    found = json.loads((out / "report.json").read_text())
    assert found[""]["runs"][0]["accuracy"]["mean@2"][0] == pytest.approx(25 / 60)
    assert (out / "accuracy.png").stat().st_size > 10_000 and not list(out.glob("*.part"))


def test_the_second_grader_is_heard(tmp_path, capsys):
    path = dump(tmp_path / "a.jsonl", [[True], [False]])
    path.write_text(path.read_text().replace('"output": "\\\\boxed{8}"', '"output": "\\\\boxed{7}"'))
    assert main(["report", str(path), "--out", str(tmp_path / "out")]) == 0
    (line,) = (tmp_path / "out" / "disagreements.jsonl").read_text().splitlines()
    assert json.loads(line)["other"] == 1.0 and json.loads(line)["acc"] == 0.0


def two_sets(path, first, second):
    """One dump of two data sets, compressed; the uids of the second come after those of the first."""
    lines = dump(path, first, source="b/set").read_text()
    lines += dump(path, second, source="a/set").read_text().replace('"uid": "', '"uid": "1').replace('"q', '"p')
    path.unlink()
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(lines.encode()))
    return packed


def test_a_table_for_each_data_set(tmp_path, capsys):
    paths = [two_sets(tmp_path / name, [[True], [False]] * 5, [[i > 2] for i in range(9)]) for name in ("x.jsonl",)]
    paths.append(two_sets(tmp_path / "y.jsonl", [[True]] * 10, [[False]] * 9))
    assert main(["report", *map(str, paths), "--out", str(tmp_path / "out")]) == 0
    first, second = capsys.readouterr().out.split("## b/set")
    assert first.startswith("## a/set\n\n") and "| x | 9 | 66.7 ± " in first and "| y | 9 | 0.0 ± " in first
    assert "| x | 10 | 50.0 ± " in second and "- y - x: +50.0 [" in second
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(found) == ["a/set", "b/set"] and found["b/set"]["differences"][0]["better"] == 5


def test_other_data_sets_are_not_compared(tmp_path):
    both = two_sets(tmp_path / "x.jsonl", [[True]] * 2, [[True]] * 2)
    one = dump(tmp_path / "y.jsonl", [[True]] * 2, source="a/set")
    with pytest.raises(SystemExit, match="y has no problem of b/set"):
        main(["report", str(both), str(one), "--out", str(tmp_path / "out")])


def test_a_line_ends_at_a_newline_only(tmp_path):
    path = dump(tmp_path / "a.jsonl", [[True], [False]])
    path.write_text(path.read_text().replace("boxed{7}", "boxed{7} \u2028\x85"))
    assert len(Evaluation.read("a", path).problems) == 2


def test_a_verdict_stands_for_a_text(tmp_path):
    found = run([[True, True]])
    for sample, second in zip(found.problems["q0", "1", 0], (0.0, 1.0), strict=True):
        sample["second"] = second
    (line,) = disagreements(found, grade=None)
    assert line["other"] == 0.0 and line["acc"] == 1.0


def test_two_equal_problems_are_two(tmp_path):
    path = dump(tmp_path / "a.jsonl", [[True], [False], [True]])
    path.write_text(path.read_text().replace('"q1"', '"q0"'))
    assert len(Evaluation.read("a", path).problems) == 3


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda text: text.replace('"acc"', '"score"'), "has no `acc`.*swarr_math"),
        (lambda text: "\n".join(text.splitlines()[1:]), "samples, where one number is wanted. Is the file whole"),
    ],
)
def test_bad_dumps_are_refused(tmp_path, break_it, message):
    path = dump(tmp_path / "a.jsonl", [[True, True], [False, True]])
    path.write_text(break_it(path.read_text()))
    with pytest.raises(EvaluationError, match=message):
        Evaluation.read("a", path)


def test_other_problems_are_not_compared(tmp_path):
    with pytest.raises(SystemExit, match="share 2: compare runs of one data set"):
        paths = [dump(tmp_path / "a.jsonl", [[True]] * 2), dump(tmp_path / "b.jsonl", [[True]] * 3)]
        main(["report", *map(str, paths), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="of one validation, or a folder with just one"):
        main(["report", str(tmp_path), "--out", str(tmp_path / "out")])
