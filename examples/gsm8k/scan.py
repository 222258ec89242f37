# SPDX-License-Identifier: Apache-2.0
"""Tables and figure of scan.sh, from the cells that are there: `python scan.py RESULTS`.

Reads eval_SOURCE_SA.jsonl.gz and eval_SOURCE_W*.jsonl.gz (evaluate.py); writes table.md, table.json, accuracy.png, and
a csv of each SFT's log.
"""

import json
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plot import series, to_csv

from swarr_verl.evaluation import Evaluation, by_source, difference, points, summary
from swarr_verl.files import write_whole

FULL = "SA"
SOURCES = {
    "base": "none, as released",
    "rationales": "GSM8K's rationales",
    "selfdistill": "own right answers, GSM8K",
    "selfdistill_math": "own right answers, GSM8K + MATH 1-4",
}


def read_cells(results: Path) -> list[Evaluation]:
    """Named SOURCE_SA or SOURCE_W16; in the order of SOURCES, full attention first, then by window."""
    cells = [
        Evaluation.read(file.name.removeprefix("eval_").removesuffix(".jsonl.gz"), file)
        for file in results.glob("eval_*.jsonl.gz")
    ]
    return sorted(cells, key=lambda cell: (list(SOURCES).index(split(cell.name)[0]), split(cell.name)[1] or 0))


def split(name: str) -> tuple[str, int | None]:
    """Source and window of a cell.

    >>> split("selfdistill_math_W16"), split("base_SA")
    (('selfdistill_math', 16), ('base', None))
    """
    source, _, window = name.rpartition("_")
    return source, None if window == FULL else int(window.removeprefix("W"))


def final_loss(log: Path) -> float | None:
    """Mean of the last 20 steps of an SFT, nats a token of its training data; None without its log."""
    losses = series(log, "train/loss")[1] if log.exists() else []
    return statistics.mean(losses[-20:]) if losses else None


def rows_of(cells: list[Evaluation], results: Path) -> list[dict[str, Any]]:
    """One a cell, of one test set; `gap` is what full attention after the same SFT has more."""
    full = {split(cell.name)[0]: cell for cell in cells if split(cell.name)[1] is None}
    rows = []
    for cell in cells:
        source, window = split(cell.name)
        gap = difference(full[source], cell) if window is not None and source in full else None
        loss = final_loss(results / f"{cell.name}.csv")
        rows.append({"source": source, "window": window, **summary(cell), "gap": gap, "sft_loss": loss})
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, accuracy and gap in percentage points."""
    lines = [
        "| SFT data | window | accuracy, % | gap to full attention | cut at the limit, % | mean response, tokens "
        "| SFT loss, nats a token |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mean, error = row["accuracy"]["mean@1"]
        gap = "-" if row["gap"] is None else points(row["gap"])
        loss = "-" if row["sft_loss"] is None else f"{row['sft_loss']:.2f}"
        lines.append(
            f"| {SOURCES[row['source']]} | {row['window'] or 'none'} | {100 * mean:.1f} ± {100 * error:.1f} | {gap} "
            f"| {100 * row['truncated']:.1f} | {row['mean_tokens']:.0f} | {loss} |"
        )
    return lines


def page(rows: dict[str, list[dict[str, Any]]]) -> str:
    """All tables, a test set each."""
    lines = [
        "Greedy; ± standard error over problems. Gap: paired over problems, with 95 % bootstrap interval. "
        "Loss: mean of the SFT's last 20 steps.",
        "",
    ]
    for test, found in rows.items():
        lines += [f"## {test}, {found[0]['problems']} problems", "", *table(found), ""]
    return "\n".join(lines)


def figure(rows: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """A panel a test set: accuracy against window, a line a source; dashed: the same SFT under full attention."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, panels = plt.subplots(1, len(rows), figsize=(6 * len(rows), 4), squeeze=False, layout="constrained")
    for panel, (test, found) in zip(panels[0], rows.items(), strict=True):
        for source in dict.fromkeys(row["source"] for row in found):
            color = f"C{list(SOURCES).index(source)}"
            mine = [row for row in found if row["source"] == source]
            windows = [row for row in mine if row["window"] is not None]
            means, errors = ([row["accuracy"]["mean@1"][part] for row in windows] for part in (0, 1))
            line = {"color": color, "marker": "o", "capsize": 3, "label": SOURCES[source]}
            panel.errorbar([row["window"] for row in windows], means, errors, **line)
            for row in mine:
                if row["window"] is None:
                    panel.axhline(row["accuracy"]["mean@1"][0], color=color, ls="--", lw=1)
        panel.set(title=test, xlabel="window, tokens (dashed: full attention)", ylabel="accuracy", ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=7, title="SFT data", title_fontsize=7)
    fig.savefig(out, dpi=150)


def main() -> None:
    results = Path(sys.argv[1])
    for log in results.glob("*.jsonl"):
        to_csv(log)
    rows = {test: rows_of(cells, results) for test, cells in by_source(read_cells(results)).items()}
    write_whole(results / "table.json", json.dumps(rows, indent=1) + "\n")
    write_whole(results / "table.md", page(rows))
    if find_spec("matplotlib"):
        figure(rows, results / "accuracy.png")
    print(page(rows))


if __name__ == "__main__":
    main()
