# SPDX-License-Identifier: Apache-2.0
"""Tables and figure of cells.sh, from the cells that are there: `python cells.py RESULTS`.

Reads eval_STATE_in_ATTENTION.jsonl.gz and eval_STATE_in_ATTENTION_xK.jsonl.gz (evaluate.py) and the log of each RL run;
writes table.md, table.json, curves.png, and a csv of each log. The seeds of a cell count as samples of a problem.
"""

import json
import re
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plot import VAL, series, to_csv

from swarr_verl.evaluation import (
    Evaluation,
    by_source,
    change,
    closed,
    difference,
    merged,
    points,
    summary,
)
from swarr_verl.files import write_whole

STATES = {  # state, attention that it is evaluated under; in the order of the table
    ("base", "SA"): "SA, as released",
    ("base", "SWA"): "SWA, as released",
    ("sft_SA", "SA"): "SA, SFT",
    ("sft_SWA", "SWA"): "SWA, SFT",
    ("sft_SA", "SWA"): "SA, SFT, put under the window",
    ("sft_SWA", "SA"): "SWA, SFT, put under full attention",
    ("rl_SA", "SA"): "SA, SFT + RL",
    ("rl_SWA", "SWA"): "SWA, SFT + RL",
    ("rl_SA", "SWA"): "SA, SFT + RL, put under the window",
    ("rl_SWA", "SA"): "SWA, SFT + RL, put under full attention",
}
SFT, RL, BEST = ("sft_SWA", "SWA"), ("rl_SWA", "SWA"), ("rl_SA", "SA")
CONTROL = "sft_SA", "SA"
SFT_FREED, RL_FREED = ("sft_SWA", "SA"), ("rl_SWA", "SA")
STEPS = [  # each way from a state to the next
    (("base", "SWA"), SFT),
    (SFT, RL),
    (CONTROL, BEST),
    (SFT, CONTROL),
    (RL, BEST),
    (SFT, SFT_FREED),
    (RL, RL_FREED),
    (SFT_FREED, CONTROL),
    (RL_FREED, BEST),
    (CONTROL, ("sft_SA", "SWA")),
    (BEST, ("rl_SA", "SWA")),
]
CHANGES = {  # by RL, of a difference between two states: after SFT, after RL
    "the gap between SA and SWA": ((SFT, CONTROL), (RL, BEST)),
    "what the window costs SWA's own policies": ((SFT, SFT_FREED), (RL, RL_FREED)),
    "what training under the window costs under full attention": ((SFT_FREED, CONTROL), (RL_FREED, BEST)),
}
KINDS = "greedy", "sampled"
NAME = re.compile(r"eval_(base|(?:sft|rl)_SW?A)(?:_(\d+))?_in_(SW?A)(_x\d+)?")
CURVES = {
    VAL: "accuracy, greedy (test)",
    "response_length/mean": "mean response, tokens",
    "reward/truncated": "cut at the limit (training)",
    "actor/entropy": "entropy, nats a token",
    "training/rollout_probs_diff_mean": "|p(rollout) - p(trainer)|, mean",
    "timing_s/step": "seconds a step",
}
COSTS = ["timing_s/step", "timing_s/gen", "timing_s/old_log_prob", "timing_s/update_actor", "perf/throughput"]

Pair = tuple[tuple[str, str], tuple[str, str]]
Cells = dict[tuple[str, str], dict[str, Evaluation]]  # state and attention -> seed ("" before RL) -> its answers


def read(results: Path, sampled: bool) -> Cells:
    """The greedy evaluations, or the sampled ones."""
    cells: Cells = {}
    for file in sorted(results.glob("eval_*.jsonl.gz")):
        name = file.name.removesuffix(".jsonl.gz")
        found = NAME.fullmatch(name)
        if found and bool(found[4]) == sampled:
            state, seed, attention, _ = found.groups()
            cells.setdefault((state, attention), {})[seed or ""] = Evaluation.read(name, file)
    return cells


def recovered(cells: dict[tuple[str, str], Evaluation]) -> dict[str, Any] | None:
    """Share of the gap that RL closes, (SWA-RL - SWA-SFT) / (SA-RL - SWA-SFT)."""
    return closed(cells[SFT], cells[RL], cells[BEST]) if cells.keys() >= {SFT, RL, BEST} else None


def changed(cells: dict[tuple[str, str], Evaluation], before: Pair, after: Pair) -> dict[str, Any] | None:
    """Difference between two states after RL less that after SFT, by a paired bootstrap over problems."""
    if not cells.keys() >= {*before, *after}:
        return None
    less, more = ((cells[high], cells[low]) for low, high in (before, after))
    return change(less, more)


def rows_of(greedy: Cells, sampled: Cells) -> dict[str, dict[str, Any]]:
    """Of each test set: a row a state, and what RL recovered (greedy, and sampled)."""
    content: dict[str, dict[str, Any]] = {}
    for kind, cells in zip(KINDS, (greedy, sampled), strict=True):
        runs = {cell: merged(seeds.values()) for cell, seeds in cells.items()}
        for source, parts in by_source(list(runs.values())).items() if runs else ():
            found = dict(zip(runs, parts, strict=True))
            page = content.setdefault(source, {"rows": {}, "steps": {}})
            page[f"recovered, {kind}"] = recovered(found)
            page[f"changes, {kind}"] = {what: changed(found, *pairs) for what, pairs in CHANGES.items()}
            for start, end in (pair for pair in STEPS if found.keys() >= set(pair)):
                step = page["steps"].setdefault(f"{STATES[start]} -> {STATES[end]}", {})
                step[kind] = difference(found[end], found[start])
            for cell in (cell for cell in STATES if cell in found):
                seeds = [run.part(source) for run in cells[cell].values()]
                means = [float(run.mean_at_k().mean()) for run in seeds] if len(seeds) > 1 else []
                row = page["rows"].setdefault(STATES[cell], {"seeds": len(seeds)})
                row[kind] = {**summary(found[cell]), "of_each_seed": means}
    return content


def percent(row: dict[str, Any] | None) -> str:
    """Mean and standard error over problems; range over seeds."""
    if row is None:
        return "-"
    mean, error = row["accuracy"][f"mean@{row['k']}"]
    seeds = [100 * one for one in row["of_each_seed"]]
    return f"{100 * mean:.1f} ± {100 * error:.1f}" + (f" ({min(seeds):.1f} to {max(seeds):.1f})" if seeds else "")


def table(page: dict[str, Any]) -> list[str]:
    """Markdown; a state a line, a way from one to another a line, then what RL recovered."""
    lines = [
        "| state | seeds | greedy, % | samples at T=0.7, % | cut at the limit, greedy, % | mean response, tokens |",
        "|---|---|---|---|---|---|",
    ]
    for label, row in page["rows"].items():
        greedy = row.get("greedy")
        cut, tokens = (f"{100 * greedy['truncated']:.1f}", f"{greedy['mean_tokens']:.0f}") if greedy else ("-", "-")
        cells = [label, row["seeds"], percent(greedy), percent(row.get("sampled")), cut, tokens]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| from -> to | greedy, points | sampled, points |", "|---|---|---|"]
    for label, step in page["steps"].items():
        lines.append(
            "| " + " | ".join([label, *(points(step[kind]) if kind in step else "-" for kind in KINDS)]) + " |"
        )
    for kind in KINDS:
        if (found := page.get(f"recovered, {kind}")) and found["share"] is not None and found["interval"]:
            low, high = found["interval"]
            lines.append(
                f"\n- {kind}: RL recovers {100 * found['share']:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of the gap; "
                f"{points(found['gap_that_remains'])} points remain"
            )
        for what, found in page.get(f"changes, {kind}", {}).items():
            if found:
                lines.append(f"- {kind}: RL changes {what} by {points(found)} points")
    return lines


def costs(logs: list[Path]) -> list[str]:
    """Markdown; medians over the steps of each RL run."""
    lines = ["| RL run | steps | " + " | ".join(COSTS) + " |", "|---" * (len(COSTS) + 2) + "|"]
    for log in logs:
        values = [series(log, key)[1] for key in COSTS]
        medians = [f"{statistics.median(found):.4g}" if found else "-" for found in values]
        lines.append(f"| {log.stem} | {len(values[0])} | {' | '.join(medians)} |")
    return lines


def validation(logs: list[Path]) -> list[str]:
    """Markdown; verl's own greedy evaluation on GSM8K's test set in the course of each RL run, %."""
    runs = {log.stem: dict(zip(*series(log, VAL), strict=True)) for log in logs}
    steps = sorted({step for run in runs.values() for step in run})
    lines = ["| RL run, step | " + " | ".join(map(str, steps)) + " |", "|---" * (len(steps) + 1) + "|"]
    for name, run in runs.items():
        cells = [f"{100 * run[step]:.1f}" if step in run else "-" for step in steps]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def starts(content: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Of each attention, accuracy after SFT: step 0 of an RL run that did not evaluate before its first step."""
    rows = content.get("openai/gsm8k", {}).get("rows", {})
    found = {state[1]: rows.get(STATES[state], {}).get("greedy") for state in (CONTROL, SFT)}
    return {attention: row["accuracy"]["mean@1"][0] for attention, row in found.items() if row}


def figure(logs: list[Path], before: dict[str, float], out: Path) -> None:
    """A panel a metric, a line a run; SA and SWA by colour, seeds by style."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, panels = plt.subplots(2, 3, figsize=(14, 7), layout="constrained")
    for panel, (key, title) in zip(panels.flat, CURVES.items(), strict=True):
        for log in logs:
            _, attention, seed = log.stem.split("_")
            look = {"color": {"SA": "C0", "SWA": "C1"}[attention], "ls": ["-", "--", ":", "-."][int(seed) % 4]}
            steps, values = series(log, key)
            if key == VAL and attention in before and 0 not in steps:
                steps, values = [0, *steps], [before[attention], *values]
            panel.plot(steps, values, lw=1, label=f"{attention}, seed {seed}", **look)
        panel.set(title=title, xlabel="RL step")
        panel.grid(alpha=0.3)
    fig.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    fig.savefig(out, dpi=120)


def main() -> None:
    results = Path(sys.argv[1])
    for log in results.glob("*.jsonl"):
        to_csv(log)
    logs = sorted(results.glob("rl_*.csv"))
    content = rows_of(read(results, sampled=False), read(results, sampled=True))
    lines = ["± standard error over problems; in brackets the seeds' range, or a 95 % bootstrap interval.", ""]
    for source, page in content.items():
        lines += [f"## {source}", "", *table(page), ""]
    lines += ["## In the course of RL: greedy accuracy on GSM8K's test set, %", "", *validation(logs), ""]
    lines += ["## Cost", "", *costs(logs)]
    write_whole(results / "table.json", json.dumps(content, indent=1) + "\n")
    write_whole(results / "table.md", "\n".join(lines) + "\n")
    if logs and find_spec("matplotlib"):
        figure(logs, starts(content), results / "curves.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
