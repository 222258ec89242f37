# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m swarr_verl doctor`."""

import argparse
import sys
from collections.abc import Sequence

from swarr_verl import doctor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m swarr_verl", description="Tools of the SWARR plugin for verl.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="check versions, plugin and registries; exit 1 with the remedy")
    command.set_defaults(run=lambda options: doctor.run())
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
