# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m swarr_verl bench | convert | doctor | inspect | mismatch | prepare | report`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarr_verl import doctor
from swarr_verl.datasets_table import TABLE, listing
from swarr_verl.errors import UserError

RANKS = ["need", "nll", "tokens", "random"]


def _layers(text: str) -> str | tuple[int, ...]:
    """A pattern: `all`, `full_every:N`, or the full layers with commas between."""
    numbers = text.split(",")
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number >= 1")
    return int(text)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text}: give a JSON object")
    return found


def _convert(options: argparse.Namespace) -> int:
    from swarr_verl.convert import convert, report
    from swarr_verl.window import WindowSpec

    convert(options.source, options.target, WindowSpec(options.window, options.layers))
    print(report(options.target))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from swarr_verl.advice import card
    from swarr_verl.inspection import inspect

    return inspect(options.path, options.length, options.memory << 30 if options.memory else card())


def _doctor(options: argparse.Namespace) -> int:
    return doctor.run() or (_inspect(options) if options.path else 0)


def _prepare(options: argparse.Namespace) -> int:
    if options.name == "selfdistill":
        from swarr_verl.selfdistill import run
    elif options.name == "ranked":
        from swarr_verl.rank import run
    else:
        from swarr_verl.prepare import run
    return run(options)


def _mismatch(options: argparse.Namespace) -> int:
    from swarr_verl.mismatch import run

    return run(options)


def _bench(options: argparse.Namespace) -> int:
    from swarr_verl.bench import run

    return run(options)


def _report(options: argparse.Namespace) -> int:
    from swarr_verl.evaluation import Evaluation
    from swarr_verl.report import report

    named = [run.rpartition("=") for run in options.runs]
    runs = [Evaluation.read(name or Path(path).name.partition(".jsonl")[0], Path(path)) for name, _, path in named]
    print(report(runs, options.out), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m swarr_verl", description="Tools of the SWARR plugin for verl.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="check versions, plugin and registries; exit 1 with the remedy")
    _add_checkpoint(command, nargs="?")
    command.set_defaults(run=_doctor)
    command = commands.add_parser("convert", help="put a checkpoint under a window; weights are linked, not copied")
    command.add_argument("source", metavar="SRC", help="folder of a checkpoint, or its name on the hub")
    command.add_argument("target", metavar="DST", type=Path, help="folder to make")
    command.add_argument("--window", type=int, required=True, help="keys that a query sees, itself included; tokens")
    command.add_argument("--layers", type=_layers, default="all", help="all, full_every:N, or full layers: 0,12")
    command.set_defaults(run=_convert)
    command = commands.add_parser("inspect", help="what transformers and vLLM make of a checkpoint's window; its cost")
    _add_checkpoint(command)
    command.set_defaults(run=_inspect)
    _add_bench(commands)
    _add_prepare(commands)
    _add_mismatch(commands)
    command = commands.add_parser("report", help="compare validation-only runs (+swarr=eval): accuracy with errors")
    command.add_argument("runs", metavar="[NAME=]PATH", nargs="+", help="what verl dumped; the first is compared with")
    command.add_argument("--out", type=Path, required=True, help="folder of report.md, report.json and the figure")
    command.set_defaults(run=_report)
    return parser


def _add_checkpoint(command: argparse.ArgumentParser, **path: Any) -> None:
    command.add_argument("path", metavar="PATH", help="folder of a checkpoint, or its name on the hub", **path)
    command.add_argument("--length", type=_count, default=32768, help="of a sequence, tokens (default: %(default)s)")
    command.add_argument("--memory", type=_count, metavar="GiB", help="of a card (default: this machine's, else 80)")


def _add_bench(commands: Any) -> None:
    command = commands.add_parser("bench", help="what windows gain while decoding: measured with vLLM, or --dry")
    command.add_argument("model", metavar="MODEL", help="checkpoint, or a shape of Qwen2.5: 0.5b, 1.5b, 7b")
    command.add_argument("--window", type=_count, nargs="+", required=True, help="to compare with full attention")
    command.add_argument(
        "--depth", type=_count, nargs="+", default=[4096, 32768], help="tokens of context (%(default)s)"
    )
    command.add_argument(
        "--sequences",
        type=_count,
        metavar="N",
        help="of a step (default: as many as fit, at most 1024, or max_num_seqs of --engine)",
    )
    command.add_argument("--out", type=Path, required=True, help="folder of bench.md, bench.json and bench.png")
    command.add_argument("--steps", type=_count, default=64, help="timed decode steps (default: %(default)s)")
    command.add_argument("--engine", type=_json_object, default={}, help="more arguments of vllm.LLM, as JSON")
    command.add_argument("--dry", action="store_true", help="predict without a GPU; needs the next three")
    command.add_argument(
        "--bandwidth", type=float, metavar="GB/s", help="of a large copy, read and written (H100: 2980)"
    )
    command.add_argument("--tflops", type=float, metavar="TFLOP/s", help="of a large product (H100, bf16: 780)")
    command.add_argument("--memory", type=float, metavar="GiB", help="for weights and KV cache")
    command.add_argument(
        "--host",
        type=float,
        metavar="US",
        help="microseconds that vLLM's Python takes for a sequence in a step (default: measured; --dry: 37)",
    )
    command.set_defaults(run=_bench)


def _add_mismatch(commands: Any) -> None:
    command = commands.add_parser("mismatch", help="how much of what is older than a window trajectories need")
    command.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="SFT parquet, or generations (.jsonl[.gz]), those that verl dumps too",
    )
    command.add_argument("--problems", nargs="+", type=Path, default=[], metavar="FILE", help="prompts of generations")
    command.add_argument("--model", required=True, metavar="PATH", help="that reads them: of full attention")
    command.add_argument("--window", type=_count, required=True, help="tokens of context that it is left with")
    command.add_argument("--stride", type=_count, default=16, help="tokens scored together (default: %(default)s)")
    command.add_argument("--limit", type=_count, metavar="N", help="trajectories of each file (default: all)")
    command.add_argument(
        "--served", metavar="PATH", help="read all with --model's sibling of a window too: a pass more, its memory too"
    )
    command.add_argument(
        "--reach",
        type=_count,
        metavar="N",
        help="measure attention older than the window too, of N trajectories of each file: a pass of T x T products",
    )
    command.add_argument(
        "--against",
        nargs="+",
        metavar="NAME",
        help="files, as the table names them, that the others are compared with at equal length (default: the first)",
    )
    command.add_argument("--out", type=Path, required=True, help="folder of mismatch.parquet, .json, .md and .png")
    command.set_defaults(run=_mismatch)


def _add_prepare(commands: Any) -> None:
    command = commands.add_parser(
        "prepare",
        help="SFT and RL parquet of a math data set, compared with test sets; or SFT parquet of a model's own answers",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{listing()}\n\n`prepare NAME --help` has the options of each.",
    )
    names = command.add_subparsers(dest="name", metavar="NAME", required=True, help="data set; the table below, or")
    for name in TABLE:
        _add_data_set(names.add_parser(name, description=f"{TABLE[name].hub} as verl's parquet."))
    _add_selfdistill(
        names.add_parser(
            "selfdistill",
            help="the right ones of k answers a problem that a model gives in vLLM",
            description="Draw k answers a problem from a model with vLLM, under its own window; of the right ones make "
            "OUT/sft.parquet. Killed and given again, the command goes on behind the last batch in OUT/samples.jsonl.",
        )
    )
    _add_ranked(
        names.add_parser(
            "ranked",
            help="SFT rows in the order of what `mismatch` measured of them, or a share of them",
            description="Put SFT rows into the order of what `mismatch` measured of them, and keep the first.",
        )
    )


def _add_data_set(command: argparse.ArgumentParser) -> None:
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


def _add_selfdistill(command: argparse.ArgumentParser) -> None:
    def add(option: str, text: str, **kind: Any) -> None:
        command.add_argument(option, help=text + (" (default: %(default)s)" if kind.get("default") else ""), **kind)

    add("--from", "problems: rl_train.parquet of prepare", dest="source", type=Path, required=True, metavar="FILE")
    add("--model", "checkpoint: folder, or name on the hub", required=True, metavar="PATH")
    add("--out", "folder for sft.parquet and samples.jsonl", type=Path, required=True)
    add("--samples", "answers drawn a problem", type=_count, default=8, metavar="K")
    add("--temperature", "of the sampling", type=float, default=0.7, metavar="T")
    add("--top-p", "of the sampling", type=float, default=1.0, metavar="P")
    add("--response-tokens", "of an answer, at most; longer: not used", type=_count, default=1024, metavar="N")
    add("--prompt-tokens", "of a prompt, at most; longer: not asked", type=_count, default=1024, metavar="N")
    add("--keep", "right answers a problem, at most; may change after the sampling", type=_count, metavar="N")
    add("--seed", "of the sampling", type=int, default=0)
    add("--batch", "problems a batch: what a kill loses, at most", type=_count, default=256, metavar="N")
    add("--gpu-memory-utilization", "share of the card for vLLM", type=float, default=0.9, metavar="SHARE")
    add("--engine", "more arguments of vllm.LLM", type=_json_object, default={}, metavar="JSON")
    command.set_defaults(run=_prepare)


def _add_ranked(command: argparse.ArgumentParser) -> None:
    def add(option: str, text: str, **kind: Any) -> None:
        command.add_argument(option, help=text + (" (default: %(default)s)" if kind.get("default") else ""), **kind)

    add("--from", "SFT parquet of prepare", dest="source", type=Path, required=True, metavar="FILE")
    add("--measured", "mismatch.parquet of it", type=Path, required=True, metavar="FILE")
    add("--out", "folder for sft.parquet", type=Path, required=True)
    add("--rank-by", "a row's mean over the response, its length, or chance", choices=RANKS, default="need")
    add("--first", "which rows", choices=["low", "high"], default="low")
    add("--share", "of the tokens of all responses that is kept", type=float, default=1.0, metavar="SHARE")
    add("--seed", "of random (default: 0); given: what is kept is shuffled, for verl's SFT has one seed", type=int)
    command.set_defaults(run=_prepare)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; what the user can mend ends it with a message."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        sys.exit(f"[swarr] {error}")


if __name__ == "__main__":
    sys.exit(main())
