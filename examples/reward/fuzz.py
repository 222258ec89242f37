# SPDX-License-Identifier: Apache-2.0
"""Judge generated hostile responses (and those written by hand), and report what became of them.

    python examples/reward/fuzz.py --n 100000 --out examples/reward/results/fuzz.json

One sample in a hundred is judged again at the end, in another order and by new workers: verdicts must not differ.
"""

from __future__ import annotations

import json
import random
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from gold import machine

from swarr_verl.files import write_whole
from swarr_verl.grading_pool import DEADLINE, WORKERS, shared_pool
from swarr_verl.reward import math_reward

sys.path.append(str(Path(__file__).parents[2] / "tests" / "unit"))
from hostile import HAND_WRITTEN, generated

GOLDS = (r"\sqrt{x^2+1}", r"\frac{1}{7}", "(1,2)", "42", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}")


def sample(index: int) -> tuple[str, str]:
    """The hand-written ones come first."""
    response = HAND_WRITTEN[index] if index < len(HAND_WRITTEN) else generated(index)
    return response, GOLDS[index % len(GOLDS)]


def judge(index: int, deadline: float) -> tuple[bool, str, float]:
    response, gold = sample(index)
    result = math_reward("fuzz", response, gold, deadline=deadline)
    return result["acc"] == 1, str(result["path"]), float(result["seconds"])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="index to begin at, where another run ended")
    parser.add_argument("--deadline", type=float, default=DEADLINE)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time with what there is")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.limit = args.n
    start, rows, resident = time.monotonic(), [], 0
    with ThreadPoolExecutor(WORKERS) as threads:  # none waits for a worker: `seconds` are its own
        for first in range(args.first, args.n, 500):
            batch = range(first, min(first + 500, args.n))
            rows += threads.map(lambda index: judge(index, args.deadline), batch)
            sizes = [psutil.Process(pid).memory_info().rss for pid in shared_pool().pids()]
            resident = max([resident, *sizes])
            if time.monotonic() - start > args.seconds:
                break
        alive = shared_pool().judge(r"\sqrt{12}", r"2\sqrt{3}", args.deadline).correct
        shared_pool().close()
        again = random.Random(0).sample(range(len(rows)), len(rows) // 100)
        repeated = list(threads.map(lambda row: judge(args.first + row, args.deadline), again))
    report = {
        "command": sys.argv,
        **machine(args),
        "first": args.first,
        "n": len(rows),
        "seconds": time.monotonic() - start,
        "paths": Counter(path for _, path, _ in rows),
        "slowest_sample_seconds": max(seconds for *_, seconds in rows),
        "worker_resident_bytes_max": resident,
        "pool_alive_afterwards": alive,
        "judged_again": len(again),
        "verdicts_that_differ": [
            (args.first + row, rows[row][:2], verdict[:2])
            for row, verdict in zip(again, repeated, strict=True)
            if rows[row][:2] != verdict[:2]
        ],
        "judged_right": [(sample(i), path) for i, (right, path, _) in enumerate(rows, args.first) if right][:200],
        "timeouts": [
            ascii(sample(i)[0][:200]) for i, (_, path, _) in enumerate(rows, args.first) if path in ("timeout", "died")
        ],
    }
    print(json.dumps({key: value for key, value in report.items() if key != "judged_right"}, indent=1))
    if args.out:
        write_whole(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
