# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl mismatch FILE ... --model PATH --window W --out OUT`: how much of the past trajectories need.

A probe model of full attention reads each response with all of its context and with the last W tokens of it alone
(need.py). Written as it goes, so that a killed run goes on; at the end mismatch.parquet (a row a trajectory), .json,
.md and .png.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from swarr_verl.families import config_windows
from swarr_verl.mismatch_report import write
from swarr_verl.need import context_need
from swarr_verl.samples import SampleFile
from swarr_verl.sources import DataError
from swarr_verl.trajectories import Trajectory, by_digest, read

BATCH = 16  # trajectories that are read together: what a kill loses, at most


def run(options: argparse.Namespace) -> int:
    """Measure what is not measured yet, and write the summary.

    Raises:
        DataError: files that cannot be read as asked, a stride wider than the window, or a probe with a window.
    """
    names = [file.name.partition(".")[0] for file in options.files]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two files are called {name}: rename one.")
    if options.stride > options.window:
        raise DataError(f"--stride {options.stride}: give at most the --window, {options.window}.")
    if any(config_windows(AutoConfig.from_pretrained(options.model))):
        raise DataError(
            f"--model {options.model} has a window: it cannot say what it does not see. Give one of full attention."
        )
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    settings = {"model": options.model, "window": options.window, "stride": options.stride, "limit": options.limit}
    options.out.mkdir(parents=True, exist_ok=True)
    done = SampleFile(options.out / "mismatch.jsonl", {"files": list(map(str, options.files)), **settings})
    wanted = list(_all(options, names, tokenizer))
    model = _probe(options.model)
    bar = tqdm(total=len(wanted), initial=done.problems, unit=" trajectories", disable=None)
    with bar:
        for first in range(done.problems, len(wanted), BATCH):
            rows = range(first, min(first + BATCH, len(wanted)))
            found = _measure(model, tokenizer, [wanted[row] for row in rows], options)
            done.append([{"row": row, **line} for row, line in zip(rows, found, strict=True)])
            bar.update(len(rows))
    write(list(done.lines()), names, settings, options.out)
    return 0


def _probe(path: str) -> PreTrainedModel:
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()


def _all(
    options: argparse.Namespace, names: list[str], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[str, Trajectory]]:
    prompts = by_digest(options.problems, tokenizer)
    for name, file in zip(names, options.files, strict=True):
        found = list(islice(read(file, prompts), options.limit))
        if not found:
            raise DataError(f"{file} holds no trajectory.")
        yield from ((name, one) for one in found)


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[tuple[str, Trajectory]],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A line a trajectory; nats are rounded to 1e-4, far below what bf16 resolves."""
    parts = [one.tokens(tokenizer) for _, one in batch]
    texts = [
        (torch.tensor(prompt + response, device=model.device), len(prompt)) for prompt, response in parts if response
    ]
    found = iter(context_need(model, texts, options.window, options.stride) if texts else ())
    lines = []
    for (name, one), (_, response) in zip(batch, parts, strict=True):
        line: dict[str, Any] = {"file": name, "correct": one.correct, "tokens": len(response), "nll": [], "need": []}
        if response:  # else nothing is needed
            whole, truncated = next(found)
            line["nll"], line["need"] = ([round(x, 4) for x in row.tolist()] for row in (whole, truncated - whole))
        lines.append(line)
    return lines
