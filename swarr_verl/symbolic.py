# SPDX-License-Identifier: Apache-2.0
"""Answers compared as expressions by math-verify (https://github.com/huggingface/Math-Verify), in a worker process.

Model output is untrusted input to a symbolic parser. math-verify's own time limits interrupt it from a signal handler
and leave sympy's state behind; they are off. Here a bound on the size of the evaluation stands in their place, and
outside (`swarr_verl.grading_pool`) a deadline that kills the process.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

from swarr_verl.grading import Verdict

MAX_WORK = 500  # see _work: (x + 1)^{60} passes, 9^{9^9} does not

_ENDS = (sympy.oo, -sympy.oo)
_UNBOUNDED = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)
_LATEX = [LatexExtractionConfig(boxed_match_priority=0)]
logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that its time limits are off


def symbolic_verdict(gold: str, answer: str) -> Verdict:
    """Compare two LaTeX answers as expressions.

    Raises:
        MemoryError: the process is at its limit, and no longer fit to judge.
    """
    try:
        trees = _parse(answer)
        if any(_work(tree) > MAX_WORK for tree in trees):
            return Verdict(False, "refused")
        golds = _parse(gold)
        same = verify(golds, trees, timeout_seconds=None) and all(_same_size(a, b) for a in golds for b in trees)
        return Verdict(bool(same), "symbolic")
    except MemoryError:
        raise
    except Exception:  # untrusted text: whatever the parser raises, the answer is not verified
        return Verdict(False, "unreadable")


def _parse(answer: str) -> list[Any]:
    boxed = "\\boxed{" + re.sub(r"\\?\$", "", answer) + "}"
    return parse(boxed, _LATEX, fallback_mode="no_fallback", parsing_timeout=None)


def _same_size(gold: Any, answer: Any) -> bool:
    """Compare small numbers by their size: math-verify takes 2^{-98} for 2^{-58}, it looks at 6 to 15 decimals."""
    if not all(isinstance(tree, sympy.Expr) and tree.is_number for tree in (gold, answer)):
        return True
    a, b = sympy.N(gold), sympy.N(answer)
    larger = max(abs(a), abs(b))
    return bool(larger > 1e-3 or abs(a - b) <= 1e-6 * larger)


def _work(node: Any) -> float:
    r"""Bound, roughly, the bits and terms that evaluating a parsed (unevaluated) tree could build.

    Of an expression with an infinity in it there is no bound: `|\infty|` equals 1/7 in a sympy that saw `\infty^{\pi}`
    before. An infinity alone is an end of an interval.
    """
    if isinstance(node, sympy.Expr) and node not in _ENDS and node.has(*_ENDS, sympy.zoo, sympy.nan):
        return float("inf")
    if isinstance(node, _UNBOUNDED):
        return float("inf")
    if isinstance(node, sympy.Rational):
        return node.p.bit_length() + node.q.bit_length() - 1
    if isinstance(node, sympy.MatrixBase):
        return sum(map(_work, node.flat()))
    parts = [_work(child) for child in node.args]
    if isinstance(node, (sympy.Pow, sympy.exp)):
        power = abs(float(node.exp)) if node.exp.is_Number else 2.0 ** min(parts[-1], 64)
        return _work(node.base) * max(power, 1)
    if isinstance(node, (sympy.factorial, sympy.binomial)):
        return 2.0 ** min(parts[0], 64)
    return max(sum(parts), 2) * max(len(parts), 1)
