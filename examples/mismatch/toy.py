# SPDX-License-Identifier: Apache-2.0
"""Table and curves of toy.sh: `python toy.py WORK` writes toy.md, toy.json, toy.png and a csv of each log there.

Runs again from the evaluations, need/mismatch.json and the csv files alone: `python toy.py results/toy`. What was not
run has no row (`mean`, a loss that is no more, is in results/toy).
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / example) for example in ("quickstart", "gsm8k")]
from plot import series, to_csv
from report import REWARD, row

from swarr_verl.files import write_whole

LABELS = {
    "sa": "full attention",
    "naive": "window, no training",
    "sft": "window, SFT",
    "rl": "window, SFT + RL",
    "distill_sft": "window, SFT + distillation, k1",
    "ahead_sft": "window, SFT + distillation, to go",
    "mean_sft": "window, SFT + distillation, discounted mean to go",
    "topk_sft": "window, SFT + distillation, forward KL",
    "distill_sa": "window, distillation, k1",
    "ahead_sa": "window, distillation, to go",
    "mean_sa": "window, distillation, discounted mean to go",
    "topk_sa": "window, distillation, forward KL",
}
TRAINED = ["rl", *(f"{loss}_{start}" for start in ("sft", "sa") for loss in ("ahead", "mean", "distill", "topk"))]


def measures(found: dict[str, Any]) -> dict[str, Any]:
    """What `mismatch` found of a file."""
    return {key: found[key] for key in ("nll", "need", "gap")}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown; nats a token."""
    lines = ["| answers of | accuracy | looks back | nll | need | served gap |", "|---|---|---|---|---|---|"]
    for one in rows:
        accuracy = (
            f"{one['accuracy']:.3f} ± {one['stderr']:.3f} | {one['recall_share']:.2f}" if "window" in one else " | "
        )
        need, gap = ("{:.3f} [{:.3f}, {:.3f}]".format(*one[key]) for key in ("need", "gap"))
        lines.append(f"| {one['model']} | {accuracy} | {one['nll']:.3f} | {need} | {gap} |")
    return lines


def curves(work: Path, names: list[str]) -> None:
    """Share of right answers in training, by step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name in names:
        axis.plot(*series(work / f"{name}.csv", REWARD), label=LABELS[name])
    axis.set(xlabel="step", ylabel="right answers", ylim=(0, 1))
    fig.legend(fontsize=7, loc="outside upper center", ncols=2)
    axis.grid(alpha=0.3)
    fig.savefig(work / "toy.png", dpi=120)
    plt.close(fig)


def main() -> None:
    work = Path(sys.argv[1])
    need = json.loads((work / "need" / "mismatch.json").read_text())["rows"]
    ran = {name: label for name, label in LABELS.items() if f"eval_{name}" in need}
    trained = [name for name in TRAINED if name in ran]
    rows = [
        {"model": "the SFT data", **measures(need["sft"])},
    ]
    rows += [row(work, name, label) | measures(need[f"eval_{name}"]) for name, label in ran.items()]
    write_whole(work / "toy.json", json.dumps(rows, indent=1) + "\n")
    write_whole(work / "toy.md", "\n".join(table(rows)) + "\n")
    for log in (work / f"{name}.jsonl" for name in trained):
        if log.exists():
            to_csv(log)
    curves(work, trained)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
