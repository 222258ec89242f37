# SPDX-License-Identifier: Apache-2.0
"""GSM8K's and MATH's training solutions, and answers altered in value; from files, or from the hub."""

from __future__ import annotations

import json
import random
import re
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from swarr_verl.grading import boxed_answers, canonical

HUB = {  # repository, configuration, column of the solution
    "gsm8k": ("openai/gsm8k", "main", "answer"),
    "math": ("nlile/hendrycks-MATH-benchmark", None, "solution"),
}


@dataclass
class Sample:
    """One solution and its answer; `altered` is another answer."""

    data: str
    solution: str
    gold: str
    altered: str


def arguments(description: str | None) -> ArgumentParser:
    parser = ArgumentParser(description=description)
    parser.add_argument("--gsm8k", type=Path, help="train.jsonl with the column answer; the hub's without")
    parser.add_argument("--math", type=Path, help="train.jsonl with the columns solution, answer; the hub's without")
    parser.add_argument("--out", type=Path, help="results as json")
    parser.add_argument("--limit", type=int, help="samples of each data set, drawn with seed 0; all without")
    return parser


def load(args: Namespace) -> list[Sample]:
    """Return the samples of both sets; raises KeyError if a row lacks a column."""
    samples = []
    for name, (repository, configuration, column) in HUB.items():
        path = getattr(args, name)
        if path is None:
            from datasets import load_dataset

            rows = list(load_dataset(repository, configuration, split="train"))
        else:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        pairs = [(row[column], gold(name, row)) for row in rows]
        golds = [answer for _, answer in pairs]
        if args.limit:
            pairs = random.Random(0).sample(pairs, args.limit)
        samples += [
            Sample(name, solution, answer, altered(answer, golds, random.Random(f"{name} {index}")))
            for index, (solution, answer) in enumerate(pairs)
        ]
    return samples


def gold(name: str, row: dict) -> str:
    return row["answer"].rsplit("####", 1)[1].strip() if name == "gsm8k" else row["answer"]


def altered(answer: str, others: list[str], draw: random.Random) -> str:
    """Return an answer of another value: a digit changed, a minus put in front, or another problem's text."""
    digits = [match.start() for match in re.finditer("[0-9]", answer)]
    if digits and answer[0] in "123456789" and draw.random() < 0.3:
        return "-" + answer
    if digits:
        position = draw.choice(digits)
        digit = draw.choice([d for d in "0123456789" if d != answer[position]])
        return answer[:position] + digit + answer[position + 1 :]
    own = canonical(answer).lower()
    return draw.choice(sorted({o for o in others if not re.search("[0-9]", o) and canonical(o).lower() != own}))


def response(sample: Sample, answer: str) -> str:
    """Return the solution with `answer` in the place of its own, in the way of the data set."""
    if sample.data == "gsm8k":
        return sample.solution.rsplit("####", 1)[0] + "#### " + answer
    own = boxed_answers(sample.solution)
    start = sample.solution.rfind(own[-1]) if own and own[-1] else -1
    body = sample.solution[:start] if start >= 0 else sample.solution
    return body[: body.rfind("\\")] + rf"\boxed{{{answer}}}."
