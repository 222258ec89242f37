# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl mismatch FILE ... --model PATH --window W --out OUT`: how much of the past trajectories need.

A probe model of full attention reads each response with all of its context and with the last W tokens of it alone
(need.py). Written as it goes, so that a killed run goes on; at the end mismatch.parquet (a row a trajectory), .json,
.md and .png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from swarr_verl.evaluation import bootstrap, interval
from swarr_verl.families import config_windows
from swarr_verl.files import write_whole
from swarr_verl.need import context_need
from swarr_verl.samples import SampleFile
from swarr_verl.sources import DataError
from swarr_verl.trajectories import Trajectory, by_digest, read

BATCH = 16  # trajectories that are read together: what a kill loses, at most
RESAMPLES = 2000  # of the bootstrap, over up to 10^4 trajectories
BIN = 16  # tokens of a point of the figure


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
    _write(list(done.lines()), names, settings, options.out)
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


def _write(lines: list[dict[str, Any]], names: list[str], settings: dict[str, Any], out: Path) -> None:
    part = out / "mismatch.parquet.part"
    pq.write_table(pa.Table.from_pylist(lines), part)
    part.rename(out / "mismatch.parquet")
    groups = {name: [line for line in lines if line["file"] == name and line["tokens"]] for name in names}
    graded = {
        f"{name}, {word}": [line for line in group if line["correct"] is not None and (line["correct"] > 0) == right]
        for name, group in groups.items()
        for word, right in (("right", True), ("wrong", False))
    }
    rows = {name: summary(group) for name, group in (groups | graded).items() if group}
    write_whole(out / "mismatch.json", json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    table = "\n".join(markdown(rows)) + "\n"
    write_whole(out / "mismatch.md", table)
    figure({name: group for name, group in groups.items() if group}, settings["window"], out / "mismatch.png")
    print(table, end="")


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some trajectories, each with a response; nats, with 95 % bootstrap intervals over trajectories.

    `need` is that of all tokens over their number, `total` a trajectory's mean, `nll` is with all of the context.
    """
    totals = np.array([sum(line["need"]) for line in lines])
    tokens = np.array([float(line["tokens"]) for line in lines])
    drawn, spans = bootstrap(totals, RESAMPLES), bootstrap(tokens, RESAMPLES)  # the same trajectories
    return {
        "trajectories": len(lines),
        "tokens": float(tokens.mean()),
        "nll": float(sum(sum(line["nll"]) for line in lines) / tokens.sum()),
        "need": [float(totals.sum() / tokens.sum()), *interval(drawn / spans)],
        "total": [float(totals.mean()), *interval(drawn)],
    }


def markdown(rows: dict[str, dict[str, Any]]) -> list[str]:
    """One line a group."""
    lines = ["| trajectories | number | tokens | nll, nats a token | need, nats a token | need, nats a trajectory |"]
    lines += ["|---" * 6 + "|"]
    for name, row in rows.items():
        need, total = (
            f"{row[key][0]:.{digits}f} [{row[key][1]:.{digits}f}, {row[key][2]:.{digits}f}]"
            for key, digits in (("need", 3), ("total", 1))
        )
        cells = [name, row["trajectories"], f"{row['tokens']:.0f}", f"{row['nll']:.3f}", need, total]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def by_position(lines: list[dict[str, Any]]) -> tuple[list[int], list[float]]:
    """Where each BIN of the response begins, and the mean need of its tokens; without the last, of few trajectories."""
    bins: dict[int, list[float]] = {}
    for line in lines:
        for place, value in enumerate(line["need"]):
            bins.setdefault(place // BIN * BIN, []).append(value)
    kept = {place: values for place, values in sorted(bins.items()) if len(values) >= BIN * len(lines) / 10}
    return list(kept), [float(np.mean(values)) for values in kept.values()]


def figure(groups: dict[str, list[dict[str, Any]]], window: int, path: Path) -> None:
    """Need by place in the response, a line a file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, lines in groups.items():
        axis.plot(*by_position(lines), marker=".", lw=1, label=name)
    axis.set(xlabel="token of the response", ylabel=f"need beyond the last {window} tokens, nats")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    fig.savefig(path, dpi=150)
    plt.close(fig)
