# SPDX-License-Identifier: Apache-2.0
"""Overlap of problems, against brute force."""

import string

from hypothesis import given
from hypothesis import strategies as st

from swarr_verl.overlap import Hit, ProblemIndex, normalize, words

TEXTS = st.lists(st.sampled_from(["a", "B", "b", "1", "+", "-", "\n"]), max_size=9).map(" ".join)


def brute_force(train: str, tests: list[str], n: int) -> dict[int, str]:
    """Row of each overlapping test problem -> kind, by comparing all with all."""
    kinds = {}
    for row, test in enumerate(tests):
        mine, theirs = train.lower().split(), test.lower().split()
        if mine == theirs:
            kinds[row] = "exact"
            continue
        mine, theirs = ([word for word in text if word not in "+-"] for text in (mine, theirs))
        runs = [[text[i : i + n] for i in range(len(text) - n + 1)] for text in (mine, theirs)]
        if any(run in runs[1] for run in runs[0]):
            kinds[row] = f"{n}-gram"
    return kinds


@given(TEXTS, st.lists(TEXTS, max_size=6), st.integers(1, 4))
def test_against_brute_force(train, tests, n):
    index = ProblemIndex(n)
    for row, test in enumerate(tests):
        index.add("test", row, test)
    hits = index.find(train)
    assert {hit.row: hit.kind for hit in hits} == brute_force(train, tests, n)
    assert len(hits) == len({hit.row for hit in hits})
    assert len(index) == len(tests)
    assert index.short == sum(len(words(test)) < n for test in tests)


@given(st.text(), st.text(alphabet=string.whitespace, min_size=1))
def test_spelling_does_not_matter(text, space):
    assert normalize(space + normalize(text) + space) == normalize(text)
    assert normalize(text.replace(" ", space)) == normalize(text)
    index = ProblemIndex()
    index.add("test", 7, text)
    assert [hit[:3] for hit in index.find(normalize(text))] == [("test", 7, "exact")]


def test_twelve_words_are_none_and_a_sign_is_no_copy():
    index = ProblemIndex()
    index.add("test", 0, "one two three four five six seven eight nine ten eleven twelve")
    assert index.find("one two three four five six seven eight nine ten eleven twelve thirteen") == []
    assert index.short == 1
    index.add("test", 1, "one two three four five six seven eight nine ten eleven twelve: x - 1")
    shared = "one two three four five six seven eight nine ten eleven twelve x"
    assert index.find("One two three four five six seven eight nine ten eleven twelve: x + 1") == [
        Hit("test", 1, "13-gram", shared)
    ]
