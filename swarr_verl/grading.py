# SPDX-License-Identifier: Apache-2.0
r"""What a response answers, and whether that is the gold answer: as strings and as numbers, exactly, in microseconds.

Model output is untrusted. Every scan here is linear, nothing is evaluated, and what these functions cannot decide is
left to `swarr_verl.symbolic`, which runs in worker processes only (`swarr_verl.grading_pool`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

MAX_RESPONSE = 200_000  # characters read, from the end
MAX_ANSWER = 256  # characters; the longest answer of MATH's training set has 187
MAX_NESTING = 8  # brackets; MATH needs 3

_BOX = re.compile(r"\\\\?(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_NUMBERS = re.compile(r"(?=[-.0-9])(?:(?<![\w)\]}.])-)?(?:[0-9][0-9,]*)?\.?[0-9]+(?:/[0-9]+)?%?")

_TIDY = (  # in this order
    (re.compile(r"\\(?:text\w*|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[!,;:]|\\?\$|\{\}|~"), ""),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])|°"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\ "), " "),
    (re.compile("\u2212"), "-"),  # Unicode minus
    (re.compile(r"([_^])\{(\w)\}"), r"\1\2"),
    (re.compile(r"[\s.,]+$"), ""),
)
_UNIT = (  # dropped; a scale or a second answer is none
    r"(?!.*\b(?:hundred|thousand|million|billion|trillion|dozen|and|or|plus|minus|times)\b)"
    r"(?:[a-z]{3,}|cm|mm|km|kg|ft|in|mi|lb|oz|hr)\b[a-z /.-]*(?:\^[23])?"
)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)\s*(?=\.?[0-9])(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?P<decimals>\.[0-9]*)?"
    rf"\s*(?P<percent>%|percent\b)?(?:{_UNIT})?",
    re.IGNORECASE,
)


class Verdict(NamedTuple):
    """Whether an answer is right, and what decided it.

    `path` is `empty` (no gold or no answer), `string`, `number`, `refused` (too long, too deep, too much work, or in
    a base), `symbolic` (math-verify), `unreadable` (math-verify raised), `timeout` or `died` (the worker did; twice).
    """

    correct: bool
    path: str


def boxed_answers(text: str) -> list[str]:
    r"""Return what the closed `\boxed{}` of a text hold, in order; of nested ones the innermost."""
    opened: list[tuple[int, bool]] = []
    boxes: list[tuple[int, int]] = [(-1, -1)]
    for token in _BOX.finditer(text):
        mark = token.group()
        if mark == "}" and opened:
            position, is_box = opened.pop()
            if is_box and position > boxes[-1][0]:
                boxes.append((position, token.start()))
        elif mark.endswith("{") and mark != r"\{":
            opened.append((token.end(), len(mark) > 1))
    return [text[start:end].strip() for start, end in boxes[1:]]


def last_number(text: str) -> str:
    """Return the last number of a text as it is written there, or an empty string."""
    return (_NUMBERS.findall(text) or [""])[-1]


def gold_answer(ground_truth: Any) -> str:
    r"""Return the answer proper of a gold answer or of a rationale that ends in `#### 42` or `\boxed{42}`."""
    text = str(ground_truth)
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    return (boxed_answers(text) or [text.strip()])[-1]


def exact_verdict(gold: str, answer: str) -> Verdict | None:
    """Compare two answers as strings and as numbers; None if only math-verify can tell."""
    if not gold or not answer:
        return Verdict(False, "empty")
    if max(len(gold), len(answer)) > MAX_ANSWER:
        return Verdict(False, "refused")
    a, b = _number(gold), _number(answer)
    if _spelling(gold, a) == _spelling(answer, b):
        return Verdict(True, "string")
    if a and b:
        return Verdict(a[0] == b[0] or a[0] * a[1] == b[0] * b[1], "number")
    if max(_nesting(answer), answer.count("|")) > MAX_NESTING or re.search("[0-9]_", gold + answer):
        return Verdict(False, "refused")  # a base: math-verify takes 12_5 for 12
    return None


def conflicting(boxes: list[str]) -> bool:
    """Whether boxed answers differ in more than typography; empty boxes do not count."""
    spelled = (canonical(box) if len(box) <= MAX_ANSWER else box for box in boxes if box)
    first = next(spelled, None)
    return any(box != first for box in spelled)


def canonical(answer: str) -> str:
    """Return one spelling for answers that differ in typography only."""
    return _spelling(answer, _number(answer))


def _spelling(answer: str, number: tuple[Fraction, Fraction] | None) -> str:
    if number:
        return str(number[0])
    text = "".join(_tidy(answer).split())
    if re.fullmatch(r"\([A-Z]\)", text):  # a choice
        return text[1]
    return text.lower() if text.isalpha() and len(text) > 1 else text


def _tidy(text: str) -> str:
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return text.strip()


@lru_cache(256)  # the gold answer of a group, and an answer that is judged and then spelled
def _number(answer: str) -> tuple[Fraction, Fraction] | None:
    """Return the value of a plain number and its scale (1/100 for a percentage); units are dropped."""
    match = _NUMBER.fullmatch(_tidy(answer))
    if match is None:
        return None
    value = Fraction(match["sign"] + match["whole"].replace(",", "") + (match["decimals"] or ""))
    return value, Fraction(1, 100 if match["percent"] else 1)


def _nesting(text: str) -> int:
    return max(accumulate((c in "{([") - (c in "})]") for c in text), default=0)
