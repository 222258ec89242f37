# SPDX-License-Identifier: Apache-2.0
"""The one prompt of this package: SFT, RL and evaluation ask a math problem in the same words."""

from __future__ import annotations

import re

from swarr_verl.grading import boxed_answers

INSTRUCTION = "\nLet's think step by step and output the final answer within \\boxed{}."
_BARE = re.compile(r"\\(boxed|fbox)\s+(\w)(?!\w)")  # `\boxed 2`, as two solutions of MATH have it


def math_prompt(problem: str) -> list[dict[str, str]]:
    """Return the conversation that asks `problem`: one message of the user."""
    return [{"role": "user", "content": problem.strip() + INSTRUCTION}]


def problem_of(conversation: list[dict[str, str]]) -> str:
    r"""Return the problem that a conversation asks: the first message of its user, without the instruction.

    >>> problem_of(math_prompt("What is 1 + 1?"))
    'What is 1 + 1?'
    """
    asked = next((message["content"] for message in conversation if message["role"] == "user"), "")
    return asked.removesuffix(INSTRUCTION)


def math_response(solution: str, answer: str) -> str:
    r"""Return the response to learn: the solution, with its answer in a box.

    >>> math_response("Half of 6 is 3.", "3")
    'Half of 6 is 3.\nThe answer is \\boxed{3}.'
    """
    solution = _BARE.sub(r"\\\1{\2}", solution.strip())
    return solution if boxed(solution) is not None else f"{solution}\nThe answer is \\boxed{{{answer}}}."


def boxed(text: str) -> str | None:
    r"""Return what the last closed `\boxed{}` of a trusted solution holds, or None.

    >>> boxed(r"So \boxed{1}, that is \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    found = boxed_answers(_BARE.sub(r"\\\1{\2}", text))
    return found[-1] if found else None
