# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl prepare ranked`: SFT rows in the order of what `mismatch` measured of them, or a share of them.

A window cannot serve a response that needs much of what is older; this leaves such responses out, or puts them last.
An order is for trainers that keep one: verl's SFT shuffles, always by one seed (trainer/sft_trainer.py, 0.9.1), so that
another order of the file (`--seed`) is what makes another run of it.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from swarr_verl.outputs import SFT, Output
from swarr_verl.sources import DataError

BY = {  # of a row of mismatch.parquet
    "need": lambda row: sum(row["need"]) / row["tokens"],
    "nll": lambda row: sum(row["nll"]) / row["tokens"],
    "tokens": lambda row: row["tokens"],
}


def run(options: argparse.Namespace) -> int:
    """Write OUT/sft.parquet as the command line says.

    Raises:
        DataError: options or files that do not fit together.
    """
    if not 0 < options.share <= 1:
        raise DataError(f"--share {options.share}: give a share of the tokens, more than 0 and at most 1.")
    table = pq.read_table(options.source)
    if table.column_names != SFT.names:
        raise DataError(f"--from {options.source} has columns {table.column_names}. Give SFT parquet of `prepare`.")
    rows = table.to_pylist()
    measured = _measured(options.measured, options.source, len(rows))
    order = ranked(measured, options.rank_by, options.first, options.seed)
    kept = share(order, [row["tokens"] for row in measured], options.share)
    if options.seed is not None:
        random.Random(options.seed).shuffle(kept)
    options.out.mkdir(parents=True, exist_ok=True)
    with Output(options.out / "sft.parquet", SFT, None, None) as output:
        output.write([rows[index] for index in kept])
    for name, chosen in (("all", order), ("kept", kept)):
        tokens = sum(measured[index]["tokens"] for index in chosen)
        need = sum(sum(measured[index]["need"]) for index in chosen) / tokens
        print(f"{name}: {len(chosen)} rows, {tokens} tokens of responses, need {need:.4f} nats a token")
    return 0


def _measured(file: Path, source: Path, rows: int) -> list[dict[str, Any]]:
    name = source.name.partition(".")[0]
    found = [row for row in pq.read_table(file).to_pylist() if row["file"] == name]
    if len(found) != rows:
        raise DataError(
            f"--measured {file} has {len(found)} rows of a file {name}, {source} has {rows}. "
            "Run `mismatch` on it, without --limit."
        )
    if empty := [index for index, row in enumerate(found) if not row["tokens"]]:
        raise DataError(f"{source}, row {empty[0]}: no response. Leave it out.")
    return found


def ranked(measured: list[dict[str, Any]], by: str, first: str, seed: int | None) -> list[int]:
    """Rows in order: the lowest or the highest first, ties as they stand; `by` random is a shuffle."""
    order = list(range(len(measured)))
    if by == "random":
        random.Random(seed or 0).shuffle(order)
        return order
    return sorted(order, key=lambda index: BY[by](measured[index]), reverse=first == "high")


def share(order: list[int], tokens: list[int], part: float) -> list[int]:
    """The first rows of an order, until they have `part` of all tokens; that makes halves of equal cost.

    >>> share([2, 0, 1], [10, 30, 20], 0.5)
    [2, 0]
    """
    wanted, kept = part * sum(tokens), []
    for index in order:
        if wanted <= 0:
            break
        kept.append(index)
        wanted -= tokens[index]
    return kept
