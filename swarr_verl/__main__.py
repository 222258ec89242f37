# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m swarr_verl doctor | convert | inspect`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from swarr_verl import doctor


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
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    options = _parser().parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
