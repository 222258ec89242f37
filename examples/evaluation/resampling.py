# SPDX-License-Identifier: Apache-2.0
"""Seconds that verl's own validation metrics take (best@n, worst@n, maj@n by resampling), without a model.

python examples/evaluation/resampling.py --problems 40 --samples 8 --out resampling.json
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import verl
from verl.trainer.ppo.metric_utils import process_validation_metrics

from swarr_verl.files import write_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--samples", type=int, default=8, help="of each problem")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    n = args.problems * args.samples
    right = [float(i % 3 == 0) for i in range(n)]
    names = ("reward", "score", "acc", "format", "conflict", "timeout", "seconds", "tokens", "truncated")  # as ours
    infos = {name: right for name in names} | {"pred": [str(i % 5) for i in range(n)]}
    start = time.perf_counter()
    process_validation_metrics(["set"] * n, [f"problem {i // args.samples}" for i in range(n)], infos)
    seconds = time.perf_counter() - start
    report = {
        "command": sys.argv,
        "verl": verl.__version__,
        "cores": os.cpu_count(),
        "time": time.strftime("%F %T"),
        "seconds": seconds,
        "seconds_a_problem": seconds / args.problems,
    }
    print(json.dumps(report, indent=1))
    write_whole(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
