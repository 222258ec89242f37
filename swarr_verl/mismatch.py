# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl mismatch FILE ... --model PATH --window W --out OUT`: how much of the past trajectories need.

A probe model of full attention reads each response with all of its context and with the last W tokens of it alone
(need.py). If asked to, its sibling of a window reads it too (`--served`), and how far the probe's attention goes is
measured of a sample (`--reach`, reach.py). Written as it goes, so that a killed run goes on; at the end
mismatch.parquet (a row a trajectory), .json, .md and .png.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from swarr_verl.families import config_windows
from swarr_verl.mismatch_report import write
from swarr_verl.need import Text, context_need, load, nll
from swarr_verl.reach import reach
from swarr_verl.samples import SampleFile
from swarr_verl.sources import DataError
from swarr_verl.trajectories import Trajectory, by_input, digest, prompt_text, read

BATCH = 16  # trajectories between two writes: what a kill loses, at most


class Wanted(NamedTuple):
    """A trajectory to measure: of which file, and whether its reach is too."""

    file: str
    trajectory: Trajectory
    sampled: bool


def run(options: argparse.Namespace) -> int:
    """Measure what is not measured yet, and write the summary.

    Raises:
        DataError: files that cannot be read as asked, none of the name to compare with, a stride wider than the window,
            a probe with a window, or a served model without one or of other tokens.
    """
    names = [file.name.partition(".")[0] for file in options.files]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two files are called {name}: rename one.")
    against = options.against or names[:1]
    if unknown := set(against) - set(names):
        raise DataError(f"--against {', '.join(sorted(unknown))}: give names among {', '.join(names)}.")
    if options.stride > options.window:
        raise DataError(f"--stride {options.stride}: give at most the --window, {options.window}.")
    _check_windows(options)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    settings = {name: getattr(options, name) for name in ("model", "window", "stride", "limit", "served", "reach")}
    options.out.mkdir(parents=True, exist_ok=True)
    done = SampleFile(options.out / "mismatch.jsonl", {"files": list(map(str, options.files)), **settings})
    wanted = list(_all(options, names, tokenizer))
    if options.served:
        _check_tokens(options, tokenizer, wanted[0].trajectory)
    if done.problems < len(wanted):
        _read(wanted, done, tokenizer, options)
    write(list(done.lines()), names, against, settings, options.out)
    return 0


def _read(
    wanted: list[Wanted], done: SampleFile, tokenizer: PreTrainedTokenizerBase, options: argparse.Namespace
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, served = load(options.model, device), load(options.served, device) if options.served else None
    bar = tqdm(total=len(wanted), initial=done.problems, unit=" trajectories", disable=None)
    with bar:
        for first in range(done.problems, len(wanted), BATCH):
            rows = range(first, min(first + BATCH, len(wanted)))
            found = _measure(model, served, tokenizer, [wanted[row] for row in rows], options)
            done.append([{"row": row, **line} for row, line in zip(rows, found, strict=True)])
            bar.update(len(rows))


def _check_windows(options: argparse.Namespace) -> None:
    if any(config_windows(AutoConfig.from_pretrained(options.model))):
        raise DataError(
            f"--model {options.model} has a window: it cannot say what it does not see. Give one of full attention."
        )
    if options.served and not any(config_windows(AutoConfig.from_pretrained(options.served))):
        raise DataError(
            f"--served {options.served} has no window: it is of full attention, as --model is. Give a checkpoint that "
            "was trained under one, or put it under one with `python -m swarr_verl convert`."
        )


def _check_tokens(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, one: Trajectory) -> None:
    served = AutoTokenizer.from_pretrained(options.served)
    if served.get_vocab() != tokenizer.get_vocab() or one.tokens(served) != one.tokens(tokenizer):
        raise DataError(
            f"--served {options.served} has another tokenizer or chat template than --model {options.model}: what the "
            "two lose on a token cannot be compared. Give checkpoints that were trained from the same one."
        )


def _all(options: argparse.Namespace, names: list[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[Wanted]:
    prompts = by_input(options.problems, tokenizer)
    for name, file in zip(names, options.files, strict=True):
        found = list(islice(read(file, prompts), options.limit))
        if not found:
            raise DataError(f"{file} holds no trajectory.")
        sampled = set(spread(len(found), options.reach or 0))
        yield from (Wanted(name, one, place in sampled) for place, one in enumerate(found))


def spread(number: int, count: int) -> list[int]:
    """`count` places among `number`, evenly, as a file may be sorted; all of them if there are no more.

    >>> spread(10, 3)
    [0, 3, 6]
    """
    count = min(number, count)
    return [index * number // count for index in range(count)]


def _measure(
    model: PreTrainedModel,
    served: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Wanted],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A line a trajectory; what was not asked for has no key."""
    parts = [one.trajectory.tokens(tokenizer) for one in batch]
    texts = [(torch.tensor(prompt + response, device=model.device), len(prompt)) for prompt, response in parts]
    written = [text for text, (_, response) in zip(texts, parts, strict=True) if response]
    losses = iter(_losses(model, served, written, options) if written else ())
    nothing: dict[str, list[float]] = {name: [] for name in ("nll", "need", *(["served"] if served else []))}
    lines = []
    for one, (prompt, response), text in zip(batch, parts, texts, strict=True):
        line: dict[str, Any] = {
            "file": one.file,
            "problem": digest(prompt_text(tokenizer, one.trajectory.prompt)),
            "correct": one.trajectory.correct,
            "prompt": len(prompt),
            "tokens": len(response),
        }
        line |= next(losses) if response else nothing  # what has no token needs nothing
        if options.reach:
            line["reach"] = reach(model, text, options.window).tolist() if response and one.sampled else None
        lines.append(line)
    return lines


def _losses(
    model: PreTrainedModel, served: PreTrainedModel | None, texts: list[Text], options: argparse.Namespace
) -> list[dict[str, list[float]]]:
    """Of each text, a number a token of its response."""
    found = [
        {"nll": _rounded(whole), "need": _rounded(truncated - whole)}
        for whole, truncated in context_need(model, texts, options.window, options.stride)
    ]
    if served:
        scored = nll(served, [tokens for tokens, _ in texts], [len(tokens) - prompt for tokens, prompt in texts])
        for line, one in zip(found, scored, strict=True):
            line["served"] = _rounded(one)
    return found


def _rounded(values: Tensor) -> list[float]:
    """To 1e-4, of nats far below what bf16 resolves."""
    return [round(value, 4) for value in values.tolist()]
