# SPDX-License-Identifier: Apache-2.0
"""Rows of a data set, one at a time, from a local file or the hub, with the columns that its table entry promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

from swarr_verl.datasets_table import Example, Kind, MathData
from swarr_verl.errors import UserError
from swarr_verl.prompts import problem_of

Row = dict[str, Any]


class DataError(UserError):
    """Data that cannot be used as asked. The message names file, row and column, and the remedy."""


def examples(data: MathData, split: str, file: Path | None) -> Iterator[Example]:
    """Read one split of a data set.

    Args:
        data: entry of the table.
        split: `train` or `test`.
        file: .jsonl or .parquet with the hub's columns; None: the hub itself.

    Raises:
        DataError: the source cannot be read, or a row is not of this data set.
    """
    where = f"{data.hub}, split {data.splits[split]}" if file is None else str(file)
    for index, row in enumerate(_hub_rows(data, split) if file is None else _file_rows(file)):
        _check(row, data.columns, data.hub, f"{where}, row {index}")
        try:
            yield data.read(row)
        except (LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}, row {index} is not a row of {data.hub}: {error!r}. Give a file of that data set."
            ) from error


def _check(row: Row, columns: dict[str, Kind], owner: str, where: str) -> None:
    for column, kind in columns.items():
        if column not in row:
            raise DataError(
                f"{where}: no column {column!r} (found: {', '.join(row)}). {owner} has "
                f"{', '.join(columns)}: give a file with these columns, or the NAME that fits this file."
            )
        if not isinstance(row[column], kind):
            raise DataError(
                f"{where}, column {column!r}: {type(row[column]).__name__}, where {owner} has {_names(kind)}. "
                "Mend or remove the row."
            )


def _names(kind: Kind) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if one is NoneType else one.__name__ for one in kinds)


def _file_rows(file: Path) -> Iterator[Row]:
    if not file.is_file():
        raise DataError(f"{file} does not exist. Give a .jsonl or .parquet file.")
    if file.suffix == ".parquet":
        yield from _parquet_rows(file)
    elif file.suffix == ".jsonl":
        yield from _jsonl_rows(file)
    else:
        raise DataError(f"{file}: neither .jsonl nor .parquet. Convert it to one of them.")


def _jsonl_rows(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}, row {index}: not JSON ({error}). Mend or remove line {index + 1}.") from None
            if not isinstance(row, dict):
                raise DataError(f"{file}, row {index}: not an object. Write one object of columns a line.")
            yield row


def _parquet_rows(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        content = parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not a parquet file ({error}). Write it again.") from None
    for batch in content.iter_batches(batch_size=1000):
        yield from batch.to_pylist()


def _hub_rows(data: MathData, split: str) -> Iterator[Row]:
    """Stream: the largest set has 71 GB, of which RL keeps little."""
    import datasets

    try:
        yield from datasets.load_dataset(data.hub, data.config, split=data.splits[split], streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{data.hub}, split {data.splits[split]} cannot be read from the hub ({error}). Without a network fetch "
            "its files elsewhere and give them with --from."
        ) from error


def asked_problems(file: Path) -> Iterator[str]:
    """Read the problems of a file in verl's RL or SFT schema.

    Raises:
        DataError: no such file, or no column `prompt` or `messages`.
    """
    for index, row in enumerate(_file_rows(file)):
        conversation = row.get("prompt") or row.get("messages")
        if not isinstance(conversation, list):
            raise DataError(
                f"{file}, row {index}: no conversation in a column prompt or messages (found: {', '.join(row)}). "
                "Give a file that `prepare` wrote."
            )
        yield problem_of(conversation)


def rl_rows(file: Path) -> Iterator[Row]:
    """Read the rows of a file in verl's RL schema: `prompt`, `data_source` and `reward_model.ground_truth`.

    Raises:
        DataError: no such file, or a row without one of these; names row and column.
    """
    for index, row in enumerate(_file_rows(file)):
        where = f"{file}, row {index}"
        _check(row, {"prompt": list, "data_source": str, "reward_model": dict}, "verl's RL schema", where)
        _check(row["reward_model"], {"ground_truth": str}, "reward_model in verl's RL schema", where)
        if not row["prompt"] or not all(isinstance(message, dict) for message in row["prompt"]):
            raise DataError(f"{where}, column 'prompt': not a list of {{role, content}}. Mend or remove the row.")
        for message in row["prompt"]:
            _check(message, {"role": str, "content": str}, "a message of prompt in verl's RL schema", where)
        yield row
