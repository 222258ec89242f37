# SPDX-License-Identifier: Apache-2.0
"""verl's SFT and RL rows, and parquet files of them that are written whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from swarr_verl.datasets_table import Example
from swarr_verl.lengths import Measure, histogram
from swarr_verl.prompts import math_prompt, math_response
from swarr_verl.sources import DataError

CONVERSATION = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SFT = pa.schema([("messages", CONVERSATION)])
RL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", CONVERSATION),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("index", pa.int64()), ("split", pa.string())])),
    ]
)


def sft_row(example: Example) -> dict[str, Any]:
    """Return one row of verl's SFT schema, of an example with answer and solution."""
    assert example.answer is not None and example.solution is not None
    response = {"role": "assistant", "content": math_response(example.solution, example.answer)}
    return {"messages": [*math_prompt(example.problem), response]}


def rl_row(example: Example, source: str, split: str, index: int) -> dict[str, Any]:
    """Return one row of verl's RL schema; `index` is that of the row in its source."""
    return {
        "data_source": source,
        "prompt": math_prompt(example.problem),
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": example.answer},
        "extra_info": {"index": index, "split": split},
    }


class Output:
    """A parquet file in the making: there at the end of the `with` block if nothing was raised, else absent.

    Args:
        path: of the file; another of that name is replaced at the end.
        schema: SFT or RL.
        measure: counts tokens, of prompts (RL) or conversations (SFT); None: lengths are not looked at.
        max_tokens: longer rows are left out.

    Raises:
        DataError: at the end, if there is no row.
    """

    def __init__(self, path: Path, schema: pa.Schema, measure: Measure | None, max_tokens: int | None) -> None:
        self.path, self.schema, self.measure, self.max_tokens = path, schema, measure, max_tokens
        self.left_out: Counter[str] = Counter()
        self._rows = 0
        self._tokens: Counter[int] = Counter()
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> Output:
        self._writer = parquet.ParquetWriter(self._part, self.schema)
        return self

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write one batch, without what is too long."""
        if self.measure is not None and rows:
            rows = self._measured(rows, self.measure)
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, self.schema))
        self._rows += len(rows)

    def _measured(self, rows: list[dict[str, Any]], measure: Measure) -> list[dict[str, Any]]:
        column = "prompt" if self.schema is RL else "messages"
        lengths = measure([row[column] for row in rows], self.schema is RL)
        limit = max(lengths) if self.max_tokens is None else self.max_tokens
        self._tokens.update(length for length in lengths if length <= limit)
        self.left_out[f"over {limit} tokens"] += sum(length > limit for length in lengths)
        return [row for row, length in zip(rows, lengths, strict=True) if length <= limit]

    def __exit__(self, kind: object, *rest: object) -> None:
        self._writer.close()
        if kind is not None:
            self._part.unlink()
            return
        left_out = "".join(f"; left out: {count} {reason}" for reason, count in self.left_out.items() if count)
        if not self._rows:
            self._part.unlink()
            raise DataError(f"{self.path}: no row would be left{left_out}. Not written: look at the source.")
        os.replace(self._part, self.path)
        print(f"{self.path}: {self._rows} rows{left_out}")
        if self.measure is not None:
            print(histogram(self._tokens))
