# SPDX-License-Identifier: Apache-2.0
r"""Math reward: the last `\boxed{}` (else the last number) against the gold answer, 1.0 or 0.0.

Numbers and equal strings are decided here, exactly and in microseconds; only what is left goes to math-verify
(https://github.com/huggingface/Math-Verify). Model output is untrusted input to a symbolic parser, and verl
scores it in executor threads, where math-verify's time limits (`signal.alarm`: main thread only) cannot work.
They are off; limits on the size of an answer and of its evaluation stand in their place.
"""

import logging
import re
import threading
from fractions import Fraction
from itertools import accumulate
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import DAPORewardManager, register

MAX_RESPONSE = 200_000  # characters read, from the end; all scans are linear
MAX_ANSWER = 256  # characters; the longest answer of MATH's training set has 187
MAX_NESTING = 8  # brackets; MATH needs 3
MAX_WORK = 500  # see _work: (x + 1)^{60} passes, 9^{9^9} does not

_BOX = re.compile(r"\\\\?(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_NUMBERS = re.compile(r"(?:(?<![\w)\]}.])-)?(?:[0-9][0-9,]*)?\.?[0-9]+(?:/[0-9]+)?%?")

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
_UNBOUNDED = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)
_SYMPY = threading.Lock()  # mpmath's working precision is global; under the GIL the lock costs no throughput
_LATEX = [LatexExtractionConfig(boxed_match_priority=0)]
logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off


def math_reward(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: dict | None = None, **kwargs: Any
) -> dict[str, float | str]:
    r"""Judge one response, in the form of verl's `custom_reward_function`.

    `ground_truth` is a number, LaTeX, or a rationale ending in `#### 42` (GSM8K) or `\boxed{42}` (MATH).
    `pred` is the answer in one canonical spelling: verl's `maj@k` counts votes for it.
    """
    text = solution_str[-MAX_RESPONSE:]
    boxed = last_boxed(text)
    answer = (_NUMBERS.findall(text) or [""])[-1] if boxed is None else boxed.strip()
    correct = float(is_correct(gold_answer(ground_truth), answer))
    return {
        "score": correct,
        "acc": correct,
        "answer": answer[:MAX_ANSWER],
        "pred": _canonical(answer) if len(answer) <= MAX_ANSWER else "",
        "format": float(boxed is not None),
    }


def last_boxed(text: str) -> str | None:
    r"""Return what the last closed `\boxed{}` holds (the inner one, if two are nested), or None."""
    opened: list[tuple[int, bool]] = []
    start, end = -1, -1
    for token in _BOX.finditer(text):
        mark = token.group()
        if mark == "}" and opened:
            position, is_box = opened.pop()
            if is_box and position > start:
                start, end = position, token.start()
        elif mark.endswith("{") and mark != r"\{":
            opened.append((token.end(), len(mark) > 1))
    return None if start < 0 else text[start:end]


def gold_answer(ground_truth: Any) -> str:
    """Return the answer proper of a gold answer or rationale."""
    text = str(ground_truth)
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    boxed = last_boxed(text)
    return (text if boxed is None else boxed).strip()


def is_correct(gold: str, answer: str) -> bool:
    """Compare two answers: as strings, as numbers, and only then as expressions."""
    if not gold or not answer or len(answer) > MAX_ANSWER:
        return False
    if _canonical(gold) == _canonical(answer):
        return True
    a, b = _number(gold), _number(answer)
    if a and b:
        return a[0] == b[0] or a[0] * a[1] == b[0] * b[1]
    return _same_expression(gold, answer)


def _tidy(text: str) -> str:
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return text.strip()


def _canonical(answer: str) -> str:
    """Return one spelling for answers that differ in typography only."""
    number = _number(answer)
    if number:
        return str(number[0])
    text = "".join(_tidy(answer).split())
    if re.fullmatch(r"\([A-Z]\)", text):  # a choice
        return text[1]
    return text.lower() if text.isalpha() and len(text) > 1 else text


def _number(answer: str) -> tuple[Fraction, Fraction] | None:
    """Return the value of a plain number and its scale (1/100 for a percentage); units are dropped."""
    match = _NUMBER.fullmatch(_tidy(answer))
    if match is None:
        return None
    value = Fraction(match["sign"] + match["whole"].replace(",", "") + (match["decimals"] or ""))
    return value, Fraction(1, 100 if match["percent"] else 1)


def _same_expression(gold: str, answer: str) -> bool:
    """Ask math-verify, unless the answer is too deep, too much work, or has a base (it takes 12_5 for 12)."""
    if max(_nesting(answer), answer.count("|")) > MAX_NESTING or re.search("[0-9]_", gold + answer):
        return False
    try:
        with _SYMPY:
            trees = _parse(answer)
            return all(_work(tree) <= MAX_WORK for tree in trees) and verify(_parse(gold), trees, timeout_seconds=None)
    except Exception:  # untrusted text: whatever the parser raises, the answer is not verified
        return False


def _parse(answer: str) -> list[Any]:
    boxed = "\\boxed{" + re.sub(r"\\?\$", "", answer) + "}"
    return parse(boxed, _LATEX, fallback_mode="no_fallback", parsing_timeout=None)


def _nesting(text: str) -> int:
    return max(accumulate((c in "{([") - (c in "})]") for c in text), default=0)


def _work(node: Any) -> float:
    """Bound, roughly, the bits and terms that evaluating a parsed (unevaluated) tree could build."""
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


@register("swarr_math")
class SwarrRewardManager(DAPORewardManager):
    """verl's DAPO manager (overlong penalty by `reward.reward_kwargs`) around `math_reward`.

    Without a custom function verl passes its own `default_compute_score`, which knows data sources by name
    (verl/trainer/ppo/reward.py, `load_reward_manager`); here `math_reward` takes its place.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **kwargs: Any) -> None:
        if not (config.reward.get("custom_reward_function") or {}).get("path"):
            compute_score = math_reward
        super().__init__(config, tokenizer, compute_score, **kwargs)

    async def run_single(self, data: DataProto) -> dict:
        """Score one sample with plain values: verl's overlong penalty gives a tensor or the integer 0.

        Beside what `math_reward` says: `tokens` of the response, and whether the budget cut it (`truncated`).
        """
        result = await super().run_single(data)
        batch = data[-1:].batch  # as verl: the last of several sequences
        tokens = int(batch["attention_mask"][:, -batch["responses"].shape[-1] :].sum())
        info = result["reward_extra_info"]
        info |= {"tokens": tokens, "truncated": float(tokens >= self.config.data.max_response_length)}
        if "overlong_reward" in info:
            info |= {"overlong_reward": float(info["overlong_reward"]), "overlong": bool(info["overlong"])}
        return {"reward_score": float(result["reward_score"]), "reward_extra_info": info}
