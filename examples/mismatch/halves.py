# SPDX-License-Identifier: Apache-2.0
"""Table of halves.sh, from the cells that are there: `python halves.py RESULTS`.

Reads eval_HALF_SEED_ATTENTION.jsonl.gz and verl's logs, HALF_SEED_ATTENTION.jsonl; writes halves.md, halves.json, and
a csv of each log. The seeds of a half count as samples of a problem.
"""

import json
import re
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "gsm8k"))
from plot import to_csv

from swarr_verl.evaluation import Evaluation, change, difference, merged, points, summary
from swarr_verl.files import write_whole

HALVES = "low", "random", "high"
NAME = re.compile(r"eval_(low|high|random)_(\d+)_(SW?A)")


def read(results: Path) -> dict[tuple[str, str], list[Evaluation]]:
    """Half and attention -> its seeds."""
    cells: dict[tuple[str, str], list[Evaluation]] = {}
    for file in sorted(results.glob("eval_*.jsonl.gz")):
        if found := NAME.fullmatch(file.name.removesuffix(".jsonl.gz")):
            cells.setdefault((found[1], found[3]), []).append(Evaluation.read(found[0], file))
    return cells


def rows_of(cells: dict[tuple[str, str], list[Evaluation]]) -> list[dict[str, Any]]:
    """One a half: accuracy under each attention, of each seed too, and what full attention has more."""
    rows = []
    for half in dict.fromkeys(half for half, _ in cells):
        row: dict[str, Any] = {"half": half}
        runs = {attention: merged(cells[half, attention]) for attention in ("SA", "SWA") if (half, attention) in cells}
        for attention, run in runs.items():
            row[attention] = summary(run)
            row[attention]["of_each_seed"] = [float(one.mean_at_k().mean()) for one in cells[half, attention]]
        row["gap"] = difference(runs["SA"], runs["SWA"]) if len(runs) == 2 else None
        rows.append(row)
    return rows


def contrasts(cells: dict[tuple[str, str], list[Evaluation]]) -> list[dict[str, Any]]:
    """What one half has more than another under each attention, and in its gap; paired over problems."""
    runs = {cell: merged(seeds) for cell, seeds in cells.items()}
    found = []
    for half, other in combinations(HALVES, 2):
        if {(name, attention) for name in (half, other) for attention in ("SA", "SWA")} - runs.keys():
            continue
        row: dict[str, Any] = {"half": half, "less": other}
        row |= {attention: difference(runs[half, attention], runs[other, attention]) for attention in ("SA", "SWA")}
        ours, theirs = ((runs[name, "SA"], runs[name, "SWA"]) for name in (half, other))
        found.append(row | {"gap": change(theirs, ours)})
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, in percentage points."""
    lines = ["| SFT on the half of need | full attention, % | window, % | gap |", "|---|---|---|---|"]
    for row in rows:
        cells = [row["half"]]
        for attention in ("SA", "SWA"):
            if attention not in row:
                cells.append("-")
                continue
            mean, error = row[attention]["accuracy"][f"mean@{row[attention]['k']}"]
            seeds = ", ".join(f"{100 * one:.1f}" for one in row[attention]["of_each_seed"])
            cells.append(f"{100 * mean:.1f} ± {100 * error:.1f} ({seeds})")
        cells.append("-" if row["gap"] is None else points(row["gap"]))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def contrast_table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, in percentage points."""
    lines = ["| half | less | full attention | window | gap |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [row["half"], row["less"], *(points(row[key]) for key in ("SA", "SWA", "gap"))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    results = Path(sys.argv[1])
    for log in results.glob("*.jsonl"):
        to_csv(log)
    cells = read(results)
    found = {"rows": rows_of(cells), "contrasts": contrasts(cells)}
    lines = [
        "± standard error over problems; in brackets the seeds; gap with a 95 % bootstrap interval.",
        "",
        *table(found["rows"]),
        "",
        "Points, with 95 % bootstrap intervals, paired over problems:",
        "",
        *contrast_table(found["contrasts"]),
    ]
    write_whole(results / "halves.json", json.dumps(found, indent=1) + "\n")
    write_whole(results / "halves.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
