# SPDX-License-Identifier: Apache-2.0
"""Judge every training solution of GSM8K and MATH against its own answer, and with its answer altered in value.

    python examples/reward/gold.py --gsm8k train.jsonl --math train.jsonl --out examples/reward/results/gold.json

verl's graders judge the same responses in the same run, on the data sets whose way
to write an answer (`####`, `boxed`) they know.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from samples import Sample, arguments, load, response
from verl.utils.reward_score import gsm8k, math_dapo, math_reward, math_verify

from swarr_verl.files import write_whole
from swarr_verl.grading_pool import WORKERS, shared_pool
from swarr_verl.reward import math_reward as swarr

DEADLINE = 60.0  # seconds; far above any sample's need, so that a busy machine does not decide a verdict


def swarr_path(text: str, gold: str) -> tuple[float, str]:
    result = swarr("", text, gold, deadline=DEADLINE)
    return float(result["acc"]), str(result["path"])


GRADERS: dict[str, tuple[tuple[str, ...], Callable[[str, str], float]]] = {  # data sets, grader
    "verl gsm8k (strict)": (("gsm8k",), lambda text, gold: float(gsm8k.compute_score(text, gold))),
    "verl math_reward": (("math",), lambda text, gold: float(math_reward.compute_score(text, gold))),
    "verl math_dapo": (("math",), lambda text, gold: float(math_dapo.compute_score(text, gold)["acc"])),
    "verl math_verify": (("gsm8k", "math"), lambda text, gold: float(math_verify.compute_score(text, gold))),
}


def run(samples: list[Sample], judge: Callable[[str, str], tuple[float, str]]) -> tuple[dict, list[dict]]:
    """Judge each sample twice; returns the rates by data set and the failures."""

    def both(sample: Sample) -> tuple[Sample, tuple[float, str], tuple[float, str]]:
        return (
            sample,
            judge(sample.solution, sample.gold),
            judge(response(sample, sample.altered), sample.gold),
        )

    start = time.perf_counter()
    with ThreadPoolExecutor(2 * WORKERS) as threads:
        judged = list(threads.map(both, samples))
    rates, failures = {}, []
    for data in sorted({sample.data for sample in samples}):
        rows = [row for row in judged if row[0].data == data]
        rates[data] = {
            "n": len(rows),
            "right": sum(own[0] == 1 for _, own, _ in rows) / len(rows),
            "altered_wrong": sum(other[0] != 1 for *_, other in rows) / len(rows),
            "paths_right": Counter(own[1] for _, own, _ in rows),
            "paths_altered": Counter(other[1] for *_, other in rows),
        }
    for sample, own, other in judged:
        if own[0] != 1:
            failures.append({"data": sample.data, "judged": "right one wrong", "cause": own[1], "gold": sample.gold})
        if other[0] == 1:
            failure = {"data": sample.data, "judged": "altered one right", "cause": other[1], "gold": sample.gold}
            failures.append(failure | {"altered": sample.altered})
    return {"rates": rates, "seconds": time.perf_counter() - start}, failures


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--skip", nargs="*", default=[], choices=list(GRADERS), help="graders of verl left out")
    args = parser.parse_args()
    samples = load(args)
    results, failures = run(samples, swarr_path)
    report = {"command": sys.argv, **machine(args), "graders": {"swarr_math": results}, "failures": failures}
    show("swarr_math", results)
    shared_pool().close()
    for name, (data, grade) in GRADERS.items():
        if name not in args.skip:
            chosen = [sample for sample in samples if sample.data in data]
            results, missed = run(chosen, lambda text, gold, grade=grade: (grade(text, gold), ""))
            report["graders"][name] = results | {"failures": missed[:50]}
            show(name, results)
    print(*(json.dumps(failure) for failure in failures), sep="\n")
    if args.out:
        write_whole(args.out, json.dumps(report, indent=1) + "\n")


def machine(args: argparse.Namespace) -> dict:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"commit": commit, "python": platform.python_version(), "limit": args.limit, "time": time.strftime("%F %T")}


def show(name: str, results: dict) -> None:
    for data, rate in results["rates"].items():
        print(
            f"{name:20} {data:6} n={rate['n']:5} right {rate['right']:8.3%} altered judged wrong "
            f"{rate['altered_wrong']:8.3%}  ({results['seconds']:.0f} s for all)",
            flush=True,
        )


if __name__ == "__main__":
    main()
