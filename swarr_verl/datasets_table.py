# SPDX-License-Identifier: Apache-2.0
"""The math data sets that `python -m swarr_verl prepare` knows: where they lie, what their columns mean.

Ids, columns and licences are those of the cards on the hub, or, where a card lists no columns, of published code that
reads the set (read in stored copies in November 2026; there was no network to load them). A set whose columns changed
since is refused with the row and the column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple

from swarr_verl.prompts import boxed

Kind = type | tuple[type, ...]
ANSWER = (str, int, float, NoneType)
OPTIONAL_TEXT = (str, NoneType)  # in the large sets, where a null is a row to count, not a reason to stop
OPTIONAL_LIST = (list, NoneType)


class Example(NamedTuple):
    """What is learned from one row. None or empty: the row has none.

    Attributes:
        problem: without an instruction.
        answer: what the reward compares with.
        solution: what SFT learns.
    """

    problem: str
    answer: str | None
    solution: str | None = None


@dataclass(frozen=True)
class MathData:
    """One data set.

    Attributes:
        hub: its id on the hub, and the `data_source` of its rows.
        license: as its card says.
        columns: those that `read` needs, and the types they may have.
        read: a row with these columns -> Example.
        splits: `train` or `test` -> the hub's name of that split.
        sft: whether its train split has solutions to learn from.
        repeats: it states a problem more than once; RL keeps the first.
        config: the hub's name of the subset.
    """

    hub: str
    license: str
    columns: dict[str, Kind]
    read: Callable[[dict[str, Any]], Example]
    splits: dict[str, str]
    sft: bool = False
    repeats: bool = False
    config: str | None = None


def _answer(value: str | int | float | None) -> str | None:
    if isinstance(value, float) and value.is_integer():  # AMC's 27.0
        value = int(value)
    return (None if value is None else str(value).strip()) or None


def _gsm8k(row: dict[str, Any]) -> Example:
    """`rationale <<6/2=3>>\n#### 3`: calculator annotations and thousands separators go."""
    rationale, mark, number = row["answer"].rpartition("\n#### ")
    if not mark:
        return Example(row["question"], None)
    return Example(row["question"], _answer(number.replace(",", "")), re.sub(r"<<[^<>]*>>", "", rationale))


def _math(row: dict[str, Any]) -> Example:
    return Example(row["problem"], _answer(boxed(row["solution"])), row["solution"])


def _benchmark(row: dict[str, Any]) -> Example:
    return Example(row["problem"], _answer(row["answer"]))


def _amc(row: dict[str, Any]) -> Example:
    return Example(row["question"], _answer(row["answer"]))


DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'


def _dapo(row: dict[str, Any]) -> Example:
    """The problem stands in DAPO's own instruction, which asks for another form of answer than ours; else none does."""
    content, answer = row["prompt"][0]["content"].strip(), _answer(row["reward_model"]["ground_truth"])
    if not (content.startswith(DAPO_BEFORE) and content.endswith(DAPO_AFTER)):
        return Example("", answer)
    return Example(content[len(DAPO_BEFORE) : -len(DAPO_AFTER)], answer)


def _openr1(row: dict[str, Any]) -> Example:
    """The first of DeepSeek-R1's generations that Math-Verify or, where that could not tell, Llama found correct."""
    verdicts = [row["correctness_math_verify"], row["correctness_llama"]]
    correct = {index for verdict in verdicts for index, right in enumerate(verdict or []) if right}
    solution = next((text for index, text in enumerate(row["generations"] or []) if index in correct), None)
    return Example(row["problem"] or "", _answer(row["answer"]), solution)


def _openmath(row: dict[str, Any]) -> Example:
    return Example(row["problem"] or "", _answer(row["expected_answer"]), row["generated_solution"])


def _numina(row: dict[str, Any]) -> Example:
    """Rows that its authors found flawed have no answer here, nor have proofs."""
    valid = row["problem_is_valid"] == row["solution_is_valid"] == "Yes"
    answer = _answer(row["answer"])
    if not valid or answer in ("proof", "notfound"):
        answer = None
    return Example(row["problem"] or "", answer, row["solution"])


TABLE = {
    "gsm8k": MathData(
        "openai/gsm8k",
        "mit",
        {"question": str, "answer": str},
        _gsm8k,
        {"train": "train", "test": "test"},
        sft=True,
        config="main",
    ),
    "math": MathData(
        "DigitalLearningGmbH/MATH-lighteval",
        "mit",
        {"problem": str, "solution": str},
        _math,
        {"train": "train", "test": "test"},
        sft=True,
        config="default",
    ),
    "math500": MathData(
        "HuggingFaceH4/MATH-500",
        "not on its card",
        {"problem": str, "answer": ANSWER},
        _benchmark,
        {"test": "test"},
    ),
    "dapo-math-17k": MathData(  # 17 thousand problems in 1.79 million rows
        "BytedTsinghua-SIA/DAPO-Math-17k",
        "apache-2.0",
        {"prompt": list, "reward_model": dict},
        _dapo,
        {"train": "train"},
        repeats=True,
    ),
    "openr1-math-220k": MathData(
        "open-r1/OpenR1-Math-220k",
        "apache-2.0",
        {
            "problem": OPTIONAL_TEXT,
            "answer": ANSWER,
            "generations": OPTIONAL_LIST,
            "correctness_math_verify": OPTIONAL_LIST,
            "correctness_llama": OPTIONAL_LIST,
        },
        _openr1,
        {"train": "train"},
        sft=True,
        config="default",
    ),
    "openmathreasoning": MathData(  # 306 thousand problems in 3.2 million rows
        "nvidia/OpenMathReasoning",
        "cc-by-4.0",
        {"problem": OPTIONAL_TEXT, "expected_answer": ANSWER, "generated_solution": OPTIONAL_TEXT},
        _openmath,
        {"train": "cot"},
        sft=True,
        repeats=True,
    ),
    "numinamath": MathData(
        "AI-MO/NuminaMath-1.5",
        "apache-2.0",
        {
            "problem": OPTIONAL_TEXT,
            "answer": ANSWER,
            "solution": OPTIONAL_TEXT,
            "problem_is_valid": OPTIONAL_TEXT,
            "solution_is_valid": OPTIONAL_TEXT,
        },
        _numina,
        {"train": "train"},
        sft=True,
    ),
    "aime24": MathData(
        "HuggingFaceH4/aime_2024",
        "not on its card",
        {"problem": str, "answer": ANSWER},
        _benchmark,
        {"test": "train"},
    ),
    "aime25": MathData(
        "math-ai/aime25",
        "not on its card",
        {"problem": str, "answer": ANSWER},
        _benchmark,
        {"test": "test"},
    ),
    "amc23": MathData(
        "math-ai/amc23",
        "not on its card",
        {"question": str, "answer": ANSWER},
        _amc,
        {"test": "test"},
    ),
}


def listing() -> str:
    """Return the table as text, for `prepare --help`."""
    lines = [f"{'NAME':19}{'on the hub':37}{'licence':17}{'splits':12}makes"]
    for name, data in TABLE.items():
        makes = "SFT, RL" if data.sft else "RL"
        lines.append(f"{name:19}{data.hub:37}{data.license:17}{' '.join(data.splits):12}{makes}")
    return "\n".join(lines)
