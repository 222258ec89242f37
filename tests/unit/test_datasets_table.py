# SPDX-License-Identifier: Apache-2.0
"""What the table makes of a row of each data set."""

import pytest
from math_rows import ROWS

from swarr_verl.datasets_table import TABLE


@pytest.mark.parametrize("name", TABLE)
def test_rows_of_each_data_set(name):
    row, (problem, answer, solution) = ROWS[name]
    assert set(TABLE[name].columns) <= set(row)
    assert TABLE[name].read(row) == (problem, answer, row.get("solution") if solution is ... else solution)
    assert TABLE[name].sft == (solution is not None)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gsm8k", {"answer": "six"}),
        ("math", {"solution": r"So \boxed{}."}),
        ("numinamath", {"answer": "proof"}),
        ("numinamath", {"answer": "notfound"}),
        ("numinamath", {"problem_is_valid": "Incomplete"}),
        ("numinamath", {"problem_is_valid": "No", "solution_is_valid": "No"}),
        ("openmathreasoning", {"expected_answer": None}),
    ],
)
def test_rows_without_an_answer(name, change):
    assert TABLE[name].read(ROWS[name][0] | change).answer is None


def test_openr1_takes_what_llama_found_correct():
    row = ROWS["openr1-math-220k"][0] | {"correctness_math_verify": [False] * 3}
    assert TABLE["openr1-math-220k"].read(row).solution is None
    assert TABLE["openr1-math-220k"].read(row | {"correctness_llama": [False, False, True]}).solution == "right too"
