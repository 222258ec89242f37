# SPDX-License-Identifier: Apache-2.0
"""What `mismatch` measured, as tables and figures: means with bootstrap intervals over trajectories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swarr_verl.evaluation import bootstrap, interval
from swarr_verl.files import write_whole

RESAMPLES = 2000  # of the bootstrap, over up to 10^4 trajectories
BIN = 16  # tokens of a point of the figure


def write(lines: list[dict[str, Any]], names: list[str], settings: dict[str, Any], out: Path) -> None:
    """Write mismatch.parquet, .json, .md and .png into a folder, and print the table.

    Args:
        lines: one a trajectory, as mismatch.jsonl has them.
        names: of the files, in the order of the table.
        settings: of the run; the window is one.
        out: the folder.
    """
    part = out / "mismatch.parquet.part"
    pq.write_table(pa.Table.from_pylist(lines), part)
    part.rename(out / "mismatch.parquet")
    groups = {name: [line for line in lines if line["file"] == name and line["tokens"]] for name in names}
    graded = {
        f"{name}, {word}": [line for line in group if line["correct"] is not None and (line["correct"] > 0) == right]
        for name, group in groups.items()
        for word, right in (("right", True), ("wrong", False))
    }
    rows = {name: summary(group) for name, group in (groups | graded).items() if group}
    write_whole(out / "mismatch.json", json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    table = "\n".join(markdown(rows)) + "\n"
    write_whole(out / "mismatch.md", table)
    figure({name: group for name, group in groups.items() if group}, settings["window"], out / "mismatch.png")
    print(table, end="")


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some trajectories, each with a response; nats, with 95 % bootstrap intervals over trajectories.

    `need` is that of all tokens over their number, `total` a trajectory's mean, `nll` is with all of the context.
    """
    totals = np.array([sum(line["need"]) for line in lines])
    tokens = np.array([float(line["tokens"]) for line in lines])
    drawn, spans = bootstrap(totals, RESAMPLES), bootstrap(tokens, RESAMPLES)  # the same trajectories
    return {
        "trajectories": len(lines),
        "tokens": float(tokens.mean()),
        "nll": float(sum(sum(line["nll"]) for line in lines) / tokens.sum()),
        "need": [float(totals.sum() / tokens.sum()), *interval(drawn / spans)],
        "total": [float(totals.mean()), *interval(drawn)],
    }


def markdown(rows: dict[str, dict[str, Any]]) -> list[str]:
    """One line a group."""
    lines = ["| trajectories | number | tokens | nll, nats a token | need, nats a token | need, nats a trajectory |"]
    lines += ["|---" * 6 + "|"]
    for name, row in rows.items():
        need, total = (
            f"{row[key][0]:.{digits}f} [{row[key][1]:.{digits}f}, {row[key][2]:.{digits}f}]"
            for key, digits in (("need", 3), ("total", 1))
        )
        cells = [name, row["trajectories"], f"{row['tokens']:.0f}", f"{row['nll']:.3f}", need, total]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def by_position(lines: list[dict[str, Any]]) -> tuple[list[int], list[float]]:
    """Where each BIN of the response begins, and the mean need of its tokens; without the last, of few trajectories."""
    bins: dict[int, list[float]] = {}
    for line in lines:
        for place, value in enumerate(line["need"]):
            bins.setdefault(place // BIN * BIN, []).append(value)
    kept = {place: values for place, values in sorted(bins.items()) if len(values) >= BIN * len(lines) / 10}
    return list(kept), [float(np.mean(values)) for values in kept.values()]


def figure(groups: dict[str, list[dict[str, Any]]], window: int, path: Path) -> None:
    """Need by place in the response, a line a file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, lines in groups.items():
        axis.plot(*by_position(lines), marker=".", lw=1, label=name)
    axis.set(xlabel="token of the response", ylabel=f"need beyond the last {window} tokens, nats")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    fig.savefig(path, dpi=150)
    plt.close(fig)
