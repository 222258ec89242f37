# SPDX-License-Identifier: Apache-2.0
"""Table and figure from a results folder: `python plot.py [RESULTS]` (default: results/ beside this file).

Reads eval_*.json (evaluate.py) and *.jsonl (verl's file logger); writes results.json, table.md, one *.csv a
run and gsm8k_wW.png. Runs again from results.json and the csv files alone.
"""

import csv
import gzip
import json
import math
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path

ROWS = {  # in the order of the table
    "sa": "full attention, as released",
    "naive": "window, as released",
    "sft_sa": "full attention, SFT",
    "sft": "window, SFT",
    "rl": "window, SFT + GRPO",
}
REWARD, LENGTH = "critic/score/mean", "response_length/mean"
DIFF_MEAN, DIFF_MAX = "training/rollout_probs_diff_mean", "training/rollout_probs_diff_max"
VAL = "val-core/openai/gsm8k/acc/mean@1"


def read_rows(results: Path) -> dict[str, dict]:
    """The evaluations by name; the single files win over what results.json remembers."""
    known = results / "results.json"
    rows = json.loads(known.read_text()) if known.exists() else {}
    for name in ROWS:
        file = results / f"eval_{name}.json"
        if file.exists():
            rows[name] = json.loads(file.read_text())
    known.write_text(json.dumps({name: rows[name] for name in ROWS if name in rows}, indent=1) + "\n")
    return rows


def to_csv(log: Path) -> None:
    """verl's file log, one JSON object a line, as a table: one line a step, one column a metric."""
    steps: dict[int, dict] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        steps.setdefault(entry["step"], {}).update(entry["data"])
    columns = sorted({key for data in steps.values() for key in data})
    with log.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *columns])
        for step, data in sorted(steps.items()):
            writer.writerow([step, *(data.get(key, "") for key in columns)])


def series(file: Path, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric, where it was measured."""
    with file.open(newline="") as lines:
        pairs = [(int(row["step"]), float(row[key])) for row in csv.DictReader(lines) if row.get(key)]
    pairs = [pair for pair in pairs if not math.isnan(pair[1])]
    return [step for step, _ in pairs], [value for _, value in pairs]


def table(rows: dict[str, dict]) -> str:
    lines = [
        "| model | window | accuracy, % | s.e. | cut at the limit, % | mean response, tokens | problems |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, label in ROWS.items():
        if row := rows.get(name):
            accuracy, error, cut = (f"{100 * row[key]:.1f}" for key in ("accuracy", "stderr", "truncated"))
            cells = [
                label,
                row["window"] or "none",
                accuracy,
                error,
                cut,
                f"{row['mean_tokens']:.0f}",
                row["n"],
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def paired(results: Path, first: str, second: str) -> str:
    """What the second model gains on the first, over the same problems, from the evaluations of each problem."""
    files = [results / f"eval_{name}.jsonl.gz" for name in (first, second)]
    if not all(file.exists() for file in files):
        return ""
    answers = [[json.loads(line)["acc"] for line in gzip.decompress(file.read_bytes()).splitlines()] for file in files]
    gains = [b - a for a, b in zip(*answers, strict=True)]
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    counts = f"{sum(gain > 0 for gain in gains)} problems gained, {sum(gain < 0 for gain in gains)} lost"
    return (
        f"{ROWS[second]} against {ROWS[first]}: {100 * statistics.mean(gains):+.1f}, s.e. {100 * error:.1f}; {counts}\n"
    )


def figure(rows: dict[str, dict], log: Path, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (score, length, diff) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    score.plot(*series(log, REWARD), color="C0", lw=1, label="reward, sampled (train)")
    score.plot(*series(log, VAL), color="C1", marker="o", ms=4, label="accuracy, greedy (test)")
    for name, color in {"sa": "0.6", "sft_sa": "0.3"}.items():
        if name in rows:
            score.axhline(rows[name]["accuracy"], color=color, ls="--", lw=1, label=ROWS[name])
    score.set(title="Reward and accuracy", ylim=(0, None))
    score.legend(fontsize=7)
    length.plot(*series(log, LENGTH), color="C0", label="mean response")
    length.set(title="Response length, tokens", ylim=(0, None))
    diff.plot(*series(log, DIFF_MAX), color="0.7", lw=1, label="max")
    diff.plot(*series(log, DIFF_MEAN), color="C0", label="mean")
    diff.set(title="|p(rollout) - p(trainer)|", yscale="log")
    diff.legend(fontsize=7)
    for axis in (score, length, diff):
        axis.set_xlabel("GRPO step")
        axis.grid(alpha=0.3)
    fig.savefig(out, dpi=150)


def main() -> None:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results")
    rows = read_rows(results)
    for log in results.glob("*.jsonl"):
        to_csv(log)
    text = table(rows) + "\n" + paired(results, "sft", "rl")
    (results / "table.md").write_text(text)
    print(text, end="")
    log = results / "grpo.csv"
    if not log.exists() or find_spec("matplotlib") is None:
        print("no figure: no grpo.csv, or matplotlib is not installed")
        return
    window = next((rows[name]["window"] for name in ("rl", "sft") if name in rows), None)
    figure(rows, log, results / f"gsm8k_w{window}.png")


if __name__ == "__main__":
    main()
