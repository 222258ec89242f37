# SPDX-License-Identifier: Apache-2.0
"""Table of halves.sh, from the cells that are there: `python halves.py RESULTS`.

Reads eval_HALF_SEED_ATTENTION.jsonl.gz; writes halves.md and halves.json. The seeds of a half count as samples of a
problem.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from swarr_verl.evaluation import Evaluation, difference, merged, points, summary
from swarr_verl.files import write_whole

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


def main() -> None:
    results = Path(sys.argv[1])
    rows = rows_of(read(results))
    lines = [
        "± standard error over problems; in brackets the seeds; gap with a 95 % bootstrap interval.",
        "",
        *table(rows),
    ]
    write_whole(results / "halves.json", json.dumps(rows, indent=1) + "\n")
    write_whole(results / "halves.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
