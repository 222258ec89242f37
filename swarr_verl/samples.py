# SPDX-License-Identifier: Apache-2.0
"""Graded samples on disk, so that sampling can be killed and go on.

The file is a line `{settings}`, then one a problem in the order of the source: `{row, data_source, ground_truth,
samples: [{text, tokens, finish_reason, acc, format, conflict}]}`, the last three as `swarr_verl.reward` says them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swarr_verl.files import write_whole
from swarr_verl.sources import DataError

Sample = dict[str, Any]
Line = dict[str, Any]


class SampleFile:
    """A file of samples, to begin or to go on with; a last line that a kill tore is dropped.

    Args:
        path: of the file.
        settings: those of this run.

    Attributes:
        problems: how many it had.

    Raises:
        DataError: it was made with other settings, or is damaged.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings, self.problems = path, settings, 0
        if path.exists():
            with path.open("rb+") as file:
                self._compare(_parsed(file.readline()).get("settings"))
                file.truncate(file.tell() + sum(len(line) for line in file if line.endswith(b"\n")))
            self.problems = sum(1 for _ in self.lines())

    def _compare(self, found: dict[str, Any] | None) -> None:
        if found is None:
            raise DataError(f"{self.path} is not of this command. Choose another --out.")
        for option, value in self.settings.items():
            if found.get(option) != value:
                raise DataError(
                    f"{self.path} was drawn with {option} {found.get(option)}, not {value}. Give the same to go on "
                    "there, or another --out to begin anew."
                )

    def lines(self) -> Iterator[Line]:
        """One a problem."""
        with self.path.open("rb") as file:
            next(file)
            for number, text in enumerate(file):
                line = _parsed(text)
                if line.get("row") != number:
                    raise DataError(
                        f"{self.path}, line {number + 2}: damaged, or written by two runs at once. Remove it and what "
                        "follows to go on from there."
                    )
                yield line

    def append(self, lines: list[Line]) -> None:
        """Return when the disk has them. The settings come with the first: a run that fails before is none."""
        if not self.path.exists():
            write_whole(self.path, json.dumps({"settings": self.settings}) + "\n")
        with self.path.open("ab") as file:
            file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _parsed(text: bytes) -> dict[str, Any]:
    """An object; of anything else, an empty one."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
