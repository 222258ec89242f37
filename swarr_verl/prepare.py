# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl prepare`: a math data set in verl's two formats.

OUT/sft.parquet (`messages`) is the train split with its solutions; OUT/rl_train.parquet and OUT/rl_test.parquet are
verl's RL schema, for training and for evaluation. Rows are read, judged and written in batches, so that a set need not
fit into memory. What does not reach a file is counted and printed; a test split is written whole or not at all.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from swarr_verl.datasets_table import TABLE, Example, MathData
from swarr_verl.files import write_whole
from swarr_verl.lengths import Measure, load_tokenizer, measure_with
from swarr_verl.outputs import RL, SFT, Output, rl_row, sft_row
from swarr_verl.overlap import NGRAM, Hit, ProblemIndex, normalize
from swarr_verl.sources import DataError, asked_problems, examples

BATCH = 1000
DROPS = {"none": (), "exact": ("exact",), "ngram": ("exact", f"{NGRAM}-gram")}


def run(options: argparse.Namespace) -> int:
    """Prepare one data set as the command line says.

    Raises:
        DataError: the options do not fit the data set, or a source is not what its table entry promises.
    """
    data = TABLE[options.name]
    files = split_files(options.name, options.split, options.source)
    if options.max_tokens is not None and options.tokenizer is None:
        raise DataError("--max-tokens counts tokens: name the tokenizer with --tokenizer PATH.")
    measure = None
    if options.tokenizer is not None:
        measure = measure_with(load_tokenizer(options.tokenizer, "--tokenizer"))
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{data.hub}, licence: {data.license}")
    tests = ProblemIndex()
    for file in options.check_overlap:
        for index, problem in enumerate(asked_problems(file)):
            tests.add(str(file), index, problem)
    if options.drop_overlap != "none" and not (len(tests) or "test" in files):
        raise DataError("--drop-overlap: there is no test set here. Name one with --check-overlap FILE.parquet.")
    for name in sorted(files, key=lambda name: name == "train"):  # tests first: train is compared with them
        split = Split(data, name, files[name], tests, DROPS[options.drop_overlap])
        split.write(options.out, measure, options.max_tokens if name == "train" else None)
        if name == "train":
            split.report_overlap(options.out / "overlap.json")
    return 0


def split_files(name: str, splits: list[str] | None, files: list[Path] | None) -> dict[str, Path | None]:
    """Return which split is read from which file (None: the hub).

    Raises:
        DataError: a split that the data set has not, or not one file a split.
    """
    known = list(TABLE[name].splits)
    chosen = splits or known
    for split in chosen:
        if split not in known:
            raise DataError(f"--split {split}: {name} has {', '.join(known)} only.")
    if len(set(chosen)) < len(chosen):
        raise DataError(f"--split {' '.join(chosen)}: name each split once.")
    if files is None:
        return dict.fromkeys(chosen)
    if len(files) != len(chosen):
        raise DataError(f"--from: {len(files)} files for the splits {', '.join(chosen)}. Give one each, in this order.")
    return dict(zip(chosen, files, strict=True))


class Split:
    """One split on its way from its source to its files.

    Args:
        data: entry of the table.
        name: `train` or `test`.
        file: its source; None: the hub.
        tests: problems of test sets; a test split adds its own, a train split is compared with them.
        drop: kinds of overlap whose rows are left out.
    """

    def __init__(
        self, data: MathData, name: str, file: Path | None, tests: ProblemIndex, drop: tuple[str, ...] = ()
    ) -> None:
        self.data, self.name, self.file, self.tests, self.drop = data, name, file, tests, drop
        self.left_out: dict[str, list[int]] = {}
        self.hits: list[tuple[int, Hit]] = []
        self.rows = 0

    def write(self, out: Path, measure: Measure | None, max_tokens: int | None) -> None:
        """Write OUT/rl_NAME.parquet and, of a train split with solutions, OUT/sft.parquet.

        Raises:
            DataError: a row is not of this data set, or a row of a test split has no answer.
        """
        rows, seen = self._kept(), set[bytes]()
        with ExitStack() as stack:
            rl = stack.enter_context(Output(out / f"rl_{self.name}.parquet", RL, measure, max_tokens))
            sft = None
            if self.data.sft and self.name == "train":
                sft = stack.enter_context(Output(out / "sft.parquet", SFT, measure, max_tokens))
            while batch := list(islice(rows, BATCH)):
                if sft is not None:
                    solved = [example for _, example in batch if example.solution]
                    sft.left_out["without a solution"] += len(batch) - len(solved)
                    sft.write([sft_row(example) for example in solved])
                new = [row for row in batch if not self.data.repeats or _is_new(row[1].problem, seen)]
                rl.left_out["that repeat a problem"] += len(batch) - len(new)
                rl.write([rl_row(example, self.data.hub, self.name, index) for index, example in new])
            self._report()

    def _kept(self) -> Iterator[tuple[int, Example]]:
        """Rows for the files, with their index; the reasons of the others go to `left_out`."""
        source = examples(self.data, self.name, self.file)
        for index, example in enumerate(tqdm(source, desc=self.name, unit=" rows", disable=None)):
            self.rows += 1
            reason = self._reason(index, example)
            if reason is None:
                yield index, example
            else:
                self.left_out.setdefault(reason, []).append(index)

    def _reason(self, index: int, example: Example) -> str | None:
        problem = example.problem.strip()
        if not problem or not example.answer:
            missing = "answer" if problem else "problem"
            if self.name != "train":
                raise DataError(f"{self.file or self.data.hub}, row {index}: no {missing}. A test set must be whole.")
            return f"without a usable {missing}"
        if self.name != "train":
            self.tests.add(f"rl_{self.name}.parquet", index, problem)
            return None
        hits = self.tests.find(problem)
        self.hits += [(index, hit) for hit in hits]
        kind = min((hit.kind for hit in hits), key=_severity, default=None)
        return f"in a test set ({kind})" if kind in self.drop else None

    def _report(self) -> None:
        print(f"{self.name}: {self.rows} rows of {self.file or self.data.hub}")
        for reason, rows in self.left_out.items():
            first = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            print(f"  left out: {len(rows)} {reason} (rows {first})")

    def report_overlap(self, path: Path) -> None:
        """Print how many rows overlap with the test problems; list them in a file."""
        if not len(self.tests):
            print("overlap: not looked for, there is no test set here. Name one with --check-overlap FILE.parquet.")
            return
        kinds: dict[int, str] = {}
        for index, hit in self.hits:
            kinds[index] = min(kinds.get(index, hit.kind), hit.kind, key=_severity)
        rows = Counter(kinds.values())
        touched = len({(hit.file, hit.row) for _, hit in self.hits})
        hits = [{"train_row": index, **hit._asdict()} for index, hit in self.hits]
        write_whole(path, json.dumps(hits, indent=1) + "\n")
        print(
            f"overlap: of {self.rows} train rows {rows['exact']} state a test problem, {rows[f'{NGRAM}-gram']} more "
            f"share {NGRAM} words in a row with one; {touched} of {len(self.tests)} test problems are touched "
            f"({self.tests.short} have fewer words). Rows: {path}"
        )


def _severity(kind: str) -> int:
    return kind != "exact"


def _is_new(problem: str, seen: set[bytes]) -> bool:
    """Whether a problem was not seen before; remembers it by a digest, for there are millions."""
    digest = blake2b(normalize(problem).encode(), digest_size=16).digest()
    new = digest not in seen
    seen.add(digest)
    return new
