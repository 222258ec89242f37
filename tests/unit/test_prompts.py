# SPDX-License-Identifier: Apache-2.0
"""Prompt and response: read back as written; boxes of trusted solutions."""

import re

from hypothesis import given
from hypothesis import strategies as st

from swarr_verl.prompts import boxed, math_prompt, math_response, problem_of


@given(st.text(), st.text(alphabet=r"ab{}\ 1"))
def test_prompt_and_response_can_be_read_back(problem, answer):
    assert problem_of(math_prompt(problem)) == problem.strip()
    depths, depth = [], 0
    for token in re.findall(r"\\.|[{}]", answer):
        depth += {"{": 1, "}": -1}.get(token, 0)
        depths.append(depth)
    if depth == 0 and min(depths, default=0) >= 0 and not re.search(r"\\+$", answer):  # one argument for TeX
        assert boxed(math_response("No box here.", answer)) == answer.strip()


def test_boxes():
    assert boxed(r"\boxed 2") == "2" and boxed(r"\fbox{a \} b}") == r"a \} b" and boxed(r"\boxed{1") is None
    assert math_response(r"So \boxed 9.", "9") == r"So \boxed{9}."
