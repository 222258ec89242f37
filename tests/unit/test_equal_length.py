# SPDX-License-Identifier: Apache-2.0
"""Need at equal length: against a sum by hand, and where only the lengths differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarr_verl.equal_length import BIN, compare, of_shared_problems
from swarr_verl.mismatch_report import comparisons, grouped


def line(problem: str, prompt: int, need: list[float]) -> dict:
    return {"problem": problem, "prompt": prompt, "need": need}


def ramp(prompt: int, tokens: int) -> list[float]:
    """What a token needs by the context before it alone."""
    return [float((prompt + place) // BIN) for place in range(tokens)]


def test_by_hand():
    ours = [line("a", BIN, [1.0] * BIN + [5.0] * 4), line("b", BIN, [3.0] * BIN)]
    theirs = [line("a", BIN, [2.0] * BIN + [1.0] * BIN)]
    found = compare(ours, theirs)
    assert found["tokens"] == BIN + 4, "of the first bin 16 of 32 and 16, of the second 4 of 4 and 16"
    assert found["need"] == pytest.approx((BIN * 2 + 4 * 5) / (BIN + 4))
    assert found["others"] == pytest.approx((BIN * 2 + 4 * 1) / (BIN + 4))
    assert found["difference"][0] == pytest.approx(found["need"] - found["others"])


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 90), st.integers(1, 90)), min_size=2, max_size=12),
    st.floats(-1, 1),
)
def test_of_tokens_that_need_by_their_place_the_difference_is_what_one_group_needs_more(problems, more):
    ours = [
        line(str(i), prompt, [x + more for x in ramp(prompt, long)]) for i, (prompt, long, _) in enumerate(problems)
    ]
    theirs = [line(str(i), prompt, ramp(prompt, short)) for i, (prompt, _, short) in enumerate(problems)]
    found = compare(ours, theirs, resamples=50)
    assert found["difference"] == pytest.approx([more] * 3, abs=1e-9)


def test_the_mean_of_all_tokens_would_tell_long_from_short():
    short, long = ([line(str(i), 20, ramp(20, tokens)) for i in range(4)] for tokens in (20, 200))
    means = [np.mean([x for one in lines for x in one["need"]]) for lines in (long, short)]
    assert means[0] - means[1] > 4
    assert compare(long, short)["difference"] == pytest.approx([0, 0, 0])


def test_the_same_problems_are_paired():
    """Problems differ by far more than the groups do."""
    levels = np.random.default_rng(1).normal(0, 10, size=40)
    ours, theirs = ([line(str(i), 20, [x + more] * 30) for i, x in enumerate(levels)] for more in (0.1, 0))
    assert compare(ours, theirs)["difference"] == pytest.approx([0.1] * 3)
    others = [one | {"problem": one["problem"] + "'"} for one in theirs]
    _, low, high = compare(ours, others)["difference"]
    assert high - low > 4


def test_no_bin_in_common():
    assert compare([line("a", 10, [1.0])], [line("a", 500, [1.0])]) is None


def test_right_in_both_leaves_out_what_only_one_answered_right():
    def graded(problem: str, correct: float | None) -> dict:
        return line(problem, 20, [1.0]) | {"correct": correct, "tokens": 1}

    def right_in_both(ours: list[dict], theirs: list[dict]) -> list[list[dict]]:
        lines = [one | {"file": name} for name, found in (("ours", ours), ("theirs", theirs)) for one in found]
        groups = grouped(lines, ["ours", "theirs"])
        kept = of_shared_problems(groups["ours, right"], groups["theirs, right"])
        return [[{key: value for key, value in one.items() if key != "file"} for one in found] for found in kept]

    ours = [graded("a", 1.0), graded("a", 0.0), graded("b", 1.0), graded("c", 0.0), graded("d", 1.0)]
    theirs = [graded("a", 1.0), graded("b", 0.0), graded("c", 1.0), graded("d", None)]
    assert right_in_both(ours, theirs) == [[ours[0]], [theirs[0]]]
    assert right_in_both(ours, theirs[1:]) == [[], []]


def test_what_is_wrong_can_hide_what_is_right():
    """Of right answers ours need less; of all they need more, for their wrong ones do not need nothing."""
    names = ["theirs", "ours"]
    lines = [
        line(f"{problem} {right}", 20, [need] * 30) | {"file": name, "correct": right, "tokens": 30}
        for problem in range(10)
        for name, right, need in (("ours", 1.0, 0.3), ("ours", 0.0, 0.2), ("theirs", 1.0, 0.4), ("theirs", 0.0, -0.3))
    ]
    found = comparisons(grouped(lines, names), names, ["theirs"])
    rows = {row["group"]: row for row in found}
    assert list(rows) == ["ours", "ours, right in both", "theirs, wrong", "ours, wrong"]
    assert rows["ours"]["difference"][0] == pytest.approx(0.2) and rows["ours"]["problems"] == 20
    assert rows["ours, right in both"]["difference"] == pytest.approx([-0.1] * 3)
    assert rows["ours, right in both"]["against"] == "theirs, right in both"
    assert rows["ours, right in both"]["problems"] == 10
