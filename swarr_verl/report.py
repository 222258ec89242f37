# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl report NAME=PATH ... --out DIR`: a comparison of validation-only runs.

Writes report.md and report.json (accuracy with standard errors, paired differences to the first run),
disagreements.jsonl (samples that verl's own Hendrycks grader judges otherwise) and accuracy.png.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from swarr_verl.evaluation import Evaluation, by_source, difference, disagreements, points, summary, with_error
from swarr_verl.files import write_whole

BINS = 8


def report(runs: list[Evaluation], out: Path) -> str:
    """Compare the runs, data set by data set; returns the tables that report.md has.

    Raises:
        EvaluationError: the runs are not of the same problems.
    """
    parts = by_source(runs)
    content: dict[str, Any] = {}
    judged_otherwise: list[dict[str, Any]] = []
    lines: list[str] = []
    for source, found in parts.items():
        section, content[source], otherwise = compare(found)
        lines += [f"## {source}", "", *section, ""] if len(parts) > 1 else section
        judged_otherwise += otherwise
    text = "\n".join(lines).rstrip() + "\n"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(
        out / "disagreements.jsonl", "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in judged_otherwise)
    )
    write_whole(out / "report.json", json.dumps(content, indent=1) + "\n")
    figure(parts, out / "accuracy.png")
    write_whole(out / "report.md", text)
    return text


def compare(runs: list[Evaluation]) -> tuple[list[str], dict[str, Any], list[dict[str, Any]]]:
    """Runs on one data set: lines of the report, its numbers, and the samples that a second grader judges otherwise."""
    from verl.utils.reward_score import math_reward  # the second grader: string comparison after Hendrycks et al.

    rows = [summary(run) for run in runs]
    differences = [difference(run, runs[0]) for run in runs[1:]]
    otherwise = [line for run in runs for line in disagreements(run, math_reward.compute_score)]
    counts = {run.name: sum(line["run"] == run.name for line in otherwise) for run in runs}
    content = {"runs": rows, "differences": differences, "second_grader": {"verl math_reward disagrees": counts}}
    return [*table(rows), *difference_lines(differences), *disagreement_lines(counts, rows)], content, otherwise


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, accuracy in percent with its standard error over problems."""
    names = list(dict.fromkeys(name for row in rows for name in row["accuracy"]))
    lines = [
        "| run | problems | " + " | ".join(f"{name}, %" for name in names) + " | truncated, % | mean tokens |",
        "|---" * (len(names) + 4) + "|",
    ]
    for row in rows:
        cells = [_percent(row["accuracy"].get(name)) for name in names]
        truncated = "-" if row["truncated"] is None else f"{100 * row['truncated']:.1f}"
        tokens = "-" if row["mean_tokens"] is None else f"{row['mean_tokens']:.0f}"
        lines.append(f"| {row['name']} | {row['problems']} | {' | '.join(cells)} | {truncated} | {tokens} |")
    return lines


def _percent(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"{100 * found[0]:.1f} ± {100 * found[1]:.1f}"


def difference_lines(differences: list[dict[str, Any]]) -> list[str]:
    """One line a run."""
    lines = (
        ["", "Paired differences of mean@k, percentage points, 95 % bootstrap over problems:"] if differences else []
    )
    for row in differences:
        better, worse = row["better"], row["worse"]
        lines.append(f"- {row['ours']} - {row['theirs']}: {points(row)}; {better} problems better, {worse} worse")
    return lines


def disagreement_lines(counts: dict[str, int], rows: list[dict[str, Any]]) -> list[str]:
    """How often the second grader judges otherwise."""
    samples = {row["name"]: row["problems"] * row["k"] for row in rows}
    found = ", ".join(f"{name} {count} of {samples[name]}" for name, count in counts.items())
    return ["", f"verl's math_reward (string comparison) judges otherwise: {found} samples (disagreements.jsonl)."]


def figure(parts: dict[str, list[Evaluation]], path: Path) -> None:
    """A row of panels a data set: accuracy of the runs, by response length, and by difficulty.

    Difficulty is the mean accuracy of all runs on the problem. Bars are standard errors: over problems on the left and
    on the right, over samples in the middle.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, rows = plt.subplots(len(parts), 3, figsize=(14, 4 * len(parts)), squeeze=False, layout="constrained")
    for panels, (source, runs) in zip(rows, parts.items(), strict=True):
        accuracy = {run.name: dict(zip(run.problems, run.mean_at_k(), strict=True)) for run in runs}
        easiness = {problem: np.mean([of[problem] for of in accuracy.values()]) for problem in runs[0].problems}
        for place, run in enumerate(runs):
            mean, error = with_error(run.mean_at_k())
            panels[0].bar(place, mean, yerr=error, color=f"C{place}", capsize=3)
            samples = [sample for found in run.problems.values() for sample in found]
            if run.share("tokens") is not None:
                _curve(panels[1], [s["tokens"] for s in samples], [s["acc"] > 0 for s in samples], run.name)
            _curve(panels[2], [float(easiness[p]) for p in run.problems], list(accuracy[run.name].values()), run.name)
        panels[0].set_xticks(
            range(len(runs)), [run.name for run in runs], rotation=30 * (sum(len(run.name) for run in runs) > 40)
        )
        panels[0].set(title=source, ylabel=f"mean@{runs[0].k}", ylim=(0, None))
        panels[1].set(xlabel="tokens of the response", ylabel="accuracy", ylim=(-0.02, 1.02))
        panels[2].set(xlabel="easiness: mean accuracy of all runs on the problem", ylim=(-0.02, 1.02))
        panels[2].legend()
    fig.savefig(path, dpi=120)
    plt.close(fig)


def _curve(panel: Any, x: list[float], y: list[float], name: str) -> None:
    """Means in bins of equal numbers of points, two at least."""
    order = np.argsort(x, kind="stable")
    bins = [chunk for chunk in np.array_split(order, min(BINS, max(1, len(order) // 2))) if len(chunk) > 1]
    across, up = np.asarray(x, float), np.asarray(y, float)
    errors = [up[chunk].std(ddof=1) / np.sqrt(len(chunk)) for chunk in bins]
    panel.errorbar([across[c].mean() for c in bins], [up[c].mean() for c in bins], errors, marker="o", label=name)
