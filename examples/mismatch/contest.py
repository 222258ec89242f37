# SPDX-License-Identifier: Apache-2.0
"""Table of contest.sh, from the conversions that are there: `python contest.py RESULTS`.

Reads of each conversion eval_NAME.jsonl.gz and .json, NAME.jsonl or .csv (verl's log) and NAME_bars.txt (an SFT's), the
same of rl_NAME, and draw.seconds and measure.seconds; writes contest.md, contest.json, and a csv of each log.
"""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "gsm8k"))
from plot import series, to_csv

from swarr_verl.evaluation import Evaluation, closed, difference, points, summary
from swarr_verl.files import write_whole

REFERENCE, START = "SA", "rationales"  # the ends of the gap
LABELS = {
    REFERENCE: "full attention: SFT on rationales",
    START: "SFT on rationales",
    "own": "SFT on own right answers",
    "low": "SFT on the half of low need",
    "distill": "on-policy distillation",
    "both": "half of that SFT, then half of the distillation",
    "after": "all of that SFT, then all of the distillation",
}
GPUS = {"distill": 2, "both": 2, "after": 2}  # else one
STUDENTS = {"both": "half", "after": START}  # what is distilled into, if not the model that all begin with


def elapsed(bars: str) -> float:
    r"""Seconds of an SFT by its progress bars (in contest.sh's format), the last of each epoch.

    >>> elapsed("Epoch 1/2: 0/8 [0.00<\nEpoch 1/2: 8/8 [62.25<\nEpoch 2/2: 8/8 [58.50<")
    120.75
    """
    last = dict(re.findall(r"^Epoch (\d+)/.*\[([\d.]+)<", bars, re.MULTILINE))
    return sum(map(float, last.values()))


def judged(results: Path, name: str) -> float:
    """The step that was evaluated, which in a run that was stopped is not the last."""
    file = results / f"eval_{name}.json"
    found = re.search(r"/global_step_(\d+)/", json.loads(file.read_text())["model"]) if file.exists() else None
    return int(found[1]) if found else math.inf


def minutes(results: Path, name: str) -> float | None:
    """GPU minutes of a run's steps, with the checkpoints between and after them; None without its logs."""
    log, bars = results / f"{name}.csv", results / f"{name}_bars.txt"
    if bars.exists():
        return elapsed(bars.read_text()) / 60
    before = minutes(results, STUDENTS[name]) if name in STUDENTS else 0.0
    if before is None or not log.exists():
        return None
    last = judged(results, name)
    steps = zip(*series(log, "timing_s/step"), strict=True)
    return before + GPUS.get(name, 1) * sum(seconds for step, seconds in steps if step <= last) / 60


def preparing(results: Path, name: str) -> float | None:
    """GPU minutes before a conversion can begin: of drawing, of measuring, of the teacher's SFT; None if not known."""
    if name in GPUS:
        return minutes(results, REFERENCE)
    stamp = results / f"{({'own': 'draw', 'low': 'measure'}).get(name)}.seconds"
    return int(stamp.read_text()) / 60 if stamp.exists() else None


def rows_of(results: Path) -> list[dict[str, Any]]:
    """One a conversion; `rl` is what RL made of it."""
    files = {name: results / f"eval_{name}.jsonl.gz" for start in LABELS for name in (start, f"rl_{start}")}
    runs = {name: Evaluation.read(name, file) for name, file in files.items() if file.exists()}
    rows = []
    for name in (name for name in LABELS if name in runs):
        row = {"minutes": minutes(results, name), "preparing": preparing(results, name), **summary(runs[name])}
        if name not in (START, REFERENCE) and {START, REFERENCE} <= runs.keys():
            row["closed"] = closed(runs[START], runs[name], runs[REFERENCE])
        if adapted := runs.get(f"rl_{name}"):
            row["rl"] = {"minutes": minutes(results, adapted.name), **summary(adapted)}
            if name != REFERENCE and (goal := runs.get(f"rl_{REFERENCE}")):
                row["rl"]["to_reference"] = difference(adapted, goal)
        rows.append(row)
    return rows


def percent(row: dict[str, Any] | None) -> str:
    """Accuracy and its standard error."""
    return "{:.1f} ± {:.1f}".format(*(100 * part for part in row["accuracy"]["mean@1"])) if row else "-"


def share(found: dict[str, Any] | None) -> str:
    """What `closed` found, %."""
    if not found or found["share"] is None:
        return "-"
    low, high = found["interval"]
    return f"{100 * found['share']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown; a conversion a line."""
    lines = [
        "| conversion | GPU minutes | before, GPU minutes | accuracy, % | share of the gap closed, % | RL, GPU minutes "
        "| after RL, % | less full attention after RL, points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        adapted = row.get("rl", {})
        spent = [row["minutes"], row["preparing"], adapted.get("minutes")]
        first, before, later = ("-" if found is None else f"{found:.1f}" for found in spent)
        goal = points(adapted["to_reference"]) if "to_reference" in adapted else "-"
        cells = [LABELS[row["name"]], first, before, percent(row), share(row.get("closed")), later]
        lines.append("| " + " | ".join([*cells, percent(adapted), goal]) + " |")
    return lines


def main() -> None:
    results = Path(sys.argv[1])
    for log in results.glob("*.jsonl"):
        to_csv(log)
    rows = rows_of(results)
    lines = [
        "Greedy; ± standard error over problems; in brackets 95 % bootstrap intervals, paired over problems. GPU "
        "minutes: of the steps; before: drawing, measuring, the teacher's SFT. The gap is between SFT on rationales "
        "under the window and under full attention.",
        "",
        *table(rows),
    ]
    write_whole(results / "contest.json", json.dumps(rows, indent=1) + "\n")
    write_whole(results / "contest.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
