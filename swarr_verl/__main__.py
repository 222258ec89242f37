# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m swarr_verl doctor | convert | inspect | prepare | report`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarr_verl import doctor
from swarr_verl.datasets_table import TABLE, listing


def _layers(text: str) -> str | tuple[int, ...]:
    """A pattern: `all`, `full_every:N`, or the full layers with commas between."""
    numbers = text.split(",")
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else text


def _convert(options: argparse.Namespace) -> int:
    from swarr_verl.convert import convert, report
    from swarr_verl.window import WindowError, WindowSpec

    try:
        convert(options.source, options.target, WindowSpec(options.window, options.layers))
    except WindowError as error:
        sys.exit(f"[swarr] {error}")
    print(report(options.target))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from swarr_verl.inspection import inspect

    return inspect(options.path, options.length)


def _prepare(options: argparse.Namespace) -> int:
    from swarr_verl.prepare import run
    from swarr_verl.sources import DataError

    try:
        return run(options)
    except DataError as error:
        sys.exit(f"[swarr] {error}")


def _report(options: argparse.Namespace) -> int:
    from swarr_verl.evaluation import Evaluation, EvaluationError
    from swarr_verl.report import report

    named = [run.rpartition("=") for run in options.runs]
    try:
        runs = [Evaluation.read(name or Path(path).name.partition(".jsonl")[0], Path(path)) for name, _, path in named]
        print(report(runs, options.out), end="")
    except EvaluationError as error:
        sys.exit(f"[swarr] {error}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m swarr_verl", description="Tools of the SWARR plugin for verl.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="check versions, plugin and registries; exit 1 with the remedy")
    command.set_defaults(run=lambda options: doctor.run())
    command = commands.add_parser("convert", help="put a checkpoint under a window; weights are linked, not copied")
    command.add_argument("source", metavar="SRC", help="folder of a checkpoint, or its name on the hub")
    command.add_argument("target", metavar="DST", type=Path, help="folder to make")
    command.add_argument("--window", type=int, required=True, help="keys that a query sees, itself included; tokens")
    command.add_argument("--layers", type=_layers, default="all", help="all, full_every:N, or full layers: 0,12")
    command.set_defaults(run=_convert)
    command = commands.add_parser("inspect", help="what transformers and vLLM make of a checkpoint's window; its cost")
    command.add_argument("path", metavar="PATH", help="folder of a checkpoint, or its name on the hub")
    command.add_argument("--length", type=int, default=32768, help="of a sequence, tokens (default: %(default)s)")
    command.set_defaults(run=_inspect)
    _add_prepare(commands)
    command = commands.add_parser("report", help="compare validation-only runs (+swarr=eval): accuracy with errors")
    command.add_argument("runs", metavar="[NAME=]PATH", nargs="+", help="what verl dumped; the first is compared with")
    command.add_argument("--out", type=Path, required=True, help="folder of report.md, report.json and the figure")
    command.set_defaults(run=_report)
    return parser


def _add_prepare(commands: Any) -> None:
    command = commands.add_parser(
        "prepare",
        help="a math data set as verl's SFT and RL parquet, compared with test sets",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=listing(),
    )
    command.add_argument("name", metavar="NAME", choices=TABLE, help="data set; the table below")
    command.add_argument("--out", type=Path, required=True, help="folder for sft.parquet, rl_train.parquet, ...")
    command.add_argument("--split", nargs="+", help="of those in the table (default: each)")
    command.add_argument(
        "--from",
        dest="source",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="one .jsonl or .parquet a split, not the hub",
    )
    command.add_argument("--tokenizer", metavar="PATH", help="print a histogram of lengths in its tokens")
    command.add_argument("--max-tokens", type=int, metavar="N", help="leave out longer train rows")
    command.add_argument(
        "--check-overlap",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="more test sets: parquet of prepare",
    )
    command.add_argument(
        "--drop-overlap",
        choices=["none", "exact", "ngram"],
        default="none",
        help="leave out train rows that state a test problem (exact), or share 13 words in a row with one too (ngram)",
    )
    command.set_defaults(run=_prepare)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    options = _parser().parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
