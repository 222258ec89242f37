# SPDX-License-Identifier: Apache-2.0
"""What `mismatch` measured, as tables and figures: means with bootstrap intervals over trajectories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swarr_verl.equal_length import compare, of_shared_problems
from swarr_verl.evaluation import bootstrap, interval
from swarr_verl.files import write_whole

RESAMPLES = 2000  # of the bootstrap, over up to 10^4 trajectories
BIN = 16  # tokens of a point of the figure
OF_HEADS = "reach_of_layers_and_heads"
INTERVALS = {  # of a summary: heading and digits
    "need": ("need, nats a token", 3),
    "total": ("need, nats a trajectory", 1),
    "gap": ("served gap, nats a token", 3),
    "reach": ("reach, share of attention", 3),
}


def write(
    lines: list[dict[str, Any]], names: list[str], against: list[str], settings: dict[str, Any], out: Path
) -> None:
    """Write mismatch.parquet, .json, .md and .png into a folder, reach.png if it was measured, and print the table.

    Args:
        lines: one a trajectory, as mismatch.jsonl has them.
        names: of the files, in the order of the table.
        against: those of them that the others are compared with at equal length.
        settings: of the run; the window is one.
        out: the folder.
    """
    part = out / "mismatch.parquet.part"
    pq.write_table(pa.Table.from_pylist(lines), part)
    part.rename(out / "mismatch.parquet")
    groups = grouped(lines, names)
    rows = {name: summary(group) for name, group in groups.items()}
    compared = comparisons(groups, names, against)
    found = {"settings": settings, "rows": rows, "at_equal_length": compared}
    write_whole(out / "mismatch.json", json.dumps(found, indent=1) + "\n")
    table = "\n".join([*markdown(rows), *(["", *at_equal_length(compared)] if compared else [])]) + "\n"
    write_whole(out / "mismatch.md", table)
    figure({name: groups[name] for name in names if name in groups}, settings["window"], out / "mismatch.png")
    shares = {name: rows[name][OF_HEADS] for name in names if OF_HEADS in rows.get(name, {})}
    if shares:
        reach_figure(shares, settings["window"], out / "reach.png")
    print(table, end="")


def grouped(lines: list[dict[str, Any]], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Lines with a response by their file, and where it is graded the right and the wrong apart; no group is empty."""
    groups = {name: [line for line in lines if line["file"] == name and line["tokens"]] for name in names}
    graded = {
        f"{name}, {word}": [line for line in group if line["correct"] is not None and (line["correct"] > 0) == right]
        for name, group in groups.items()
        for word, right in (("right", True), ("wrong", False))
    }
    return {name: group for name, group in (groups | graded).items() if group}


def comparisons(groups: dict[str, list[dict[str, Any]]], names: list[str], against: list[str]) -> list[dict[str, Any]]:
    """At equal length: files with those of `against`, whole and where both are right; wrong answers with right ones.

    Files do not get the same problems wrong, and a wrong answer may need little for it has lost the question: between
    right answers to the same problems neither is a difference.
    """
    pairs: list[tuple[str, str]] = []
    for base in against:
        pairs += [(name, base) for name in names if name != base and (base, name) not in pairs]
    pairs = [(one, other) for one, other in pairs if one in groups and other in groups]
    sides = [(one, other, groups[one], groups[other]) for one, other in pairs]
    for one, other in pairs:
        ours, theirs = of_shared_problems(*(groups.get(f"{name}, right", []) for name in (one, other)))
        if ours:
            sides.append((f"{one}, right in both", f"{other}, right in both", ours, theirs))
    for name in names:
        wrong, right = f"{name}, wrong", f"{name}, right"
        if wrong in groups and right in groups:
            sides.append((wrong, right, groups[wrong], groups[right]))
    return [
        {"group": one, "against": other, "problems": len({line["problem"] for line in ours + theirs}), **difference}
        for one, other, ours, theirs in sides
        if (difference := compare(ours, theirs))
    ]


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some trajectories, each with a response; nats, with 95 % bootstrap intervals over trajectories.

    `need` is that of all tokens over their number, `total` a trajectory's mean, `nll` is with all of the context.
    `gap` is the served model's nll less that, where it was asked for; `reach` the mean over layers and heads, of the
    trajectories whose attention was measured.
    """
    tokens = np.array([float(line["tokens"]) for line in lines])
    totals = np.array([sum(line["need"]) for line in lines])
    found = {
        "trajectories": len(lines),
        "tokens": float(tokens.mean()),
        "nll": float(sum(sum(line["nll"]) for line in lines) / tokens.sum()),
        "need": per_token(totals, tokens),
        "total": [float(totals.mean()), *interval(bootstrap(totals, RESAMPLES))],
    }
    if "served" in lines[0]:
        found["gap"] = per_token(np.array([sum(line["served"]) - sum(line["nll"]) for line in lines]), tokens)
    if sampled := [line for line in lines if line.get("reach")]:
        shares, tokens = np.array([line["reach"] for line in sampled]), np.array([line["tokens"] for line in sampled])
        found["reach"] = per_token(shares.mean(axis=(1, 2)) * tokens, tokens)
        found["reach_trajectories"] = len(sampled)
        found[OF_HEADS] = np.average(shares, axis=0, weights=tokens).tolist()
    return found


def per_token(totals: np.ndarray, tokens: np.ndarray) -> list[float]:
    """Of some trajectories: their sum over their tokens, and its interval; the same are drawn for both."""
    drawn, spans = bootstrap(totals, RESAMPLES), bootstrap(tokens, RESAMPLES)
    return [float(totals.sum() / tokens.sum()), *interval(drawn / spans)]


def markdown(rows: dict[str, dict[str, Any]]) -> list[str]:
    """One line a group; what was not asked for has no column."""
    shown = {key: kind for key, kind in INTERVALS.items() if any(key in row for row in rows.values())}
    titles = ["trajectories", "number", "tokens", "nll, nats a token", *(title for title, _ in shown.values())]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, row in rows.items():
        cells = [name, row["trajectories"], f"{row['tokens']:.0f}", f"{row['nll']:.3f}"]
        cells += [_cell(row.get(key), digits) for key, (_, digits) in shown.items()]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def at_equal_length(compared: list[dict[str, Any]]) -> list[str]:
    """One line a pair (equal_length.py)."""
    lines = [
        "At equal length (tokens with as much context before them), need in nats a token:",
        "",
        "| responses | against | problems | tokens | need | theirs | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in compared:
        cells = [row["group"], row["against"], row["problems"], row["tokens"]]
        cells += [f"{row['need']:.3f}", f"{row['others']:.3f}", _cell(row["difference"], 3)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _cell(found: list[float] | None, digits: int) -> str:
    if found is None:
        return "-"
    mean, low, high = (f"{value:.{digits}f}" for value in found)
    return f"{mean} [{low}, {high}]"


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
    plt = _pyplot()
    fig, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, lines in groups.items():
        axis.plot(*by_position(lines), marker=".", lw=1, label=name)
    axis.set(xlabel="token of the response", ylabel=f"need beyond the last {window} tokens, nats")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def reach_figure(shares: dict[str, list[list[float]]], window: int, path: Path) -> None:
    """Reach of each layer (from above) and head, a map a file, all of one scale."""
    plt = _pyplot()
    fig, axes = plt.subplots(1, len(shares), figsize=(2 + 2 * len(shares), 4), squeeze=False, layout="constrained")
    most = max(max(heads) for layers in shares.values() for heads in layers)
    for axis, (name, layers) in zip(axes[0], shares.items(), strict=True):
        drawn = axis.imshow(layers, vmin=0, vmax=most, aspect="auto")
        axis.set_title(name, fontsize=7)
        axis.set(xlabel="head", ylabel="layer")
    fig.colorbar(drawn, ax=axes, label=f"attention older than {window} tokens, share")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
