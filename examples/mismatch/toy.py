# SPDX-License-Identifier: Apache-2.0
"""Table of toy.sh: `python toy.py WORK` writes toy.md and toy.json there."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "quickstart"))
from task import style

from swarr_verl.files import write_whole

LABELS = {
    "sa": "full attention",
    "naive": "window, no training",
    "sft": "window, SFT",
    "rl": "window, SFT + RL",
    "distill_sft": "window, SFT + distillation",
    "distill_sa": "window, distillation",
}


def row(work: Path, name: str, need: dict[str, Any]) -> dict[str, Any]:
    """Of one model: accuracy, the share of its answers that look back to the prompt, need of a token."""
    found = json.loads((work / f"eval_{name}.json").read_text())
    lines = gzip.decompress((work / f"eval_{name}.jsonl.gz").read_bytes()).decode().splitlines()
    styles = [style(json.loads(line)["output"]) for line in lines]
    kept = {key: found[key] for key in ("window", "accuracy", "stderr", "n", "mean_tokens")}
    back = styles.count("recall") / len(styles)
    return {"model": LABELS[name], **kept, "looks_back": back, "need": need[f"eval_{name}"]["need"]}


def table(rows: list[dict[str, Any]], data: list[float]) -> list[str]:
    """Markdown; `data` is the need of the SFT data."""
    lines = ["| model | accuracy | looks back | need, nats a token |", "|---|---|---|---|"]
    lines.append("| the SFT data | | | {:.3f} [{:.3f}, {:.3f}] |".format(*data))
    for one in rows:
        needs = "{:.3f} [{:.3f}, {:.3f}]".format(*one["need"])
        accuracy = f"{one['accuracy']:.3f} ± {one['stderr']:.3f}"
        lines.append(f"| {one['model']} | {accuracy} | {one['looks_back']:.2f} | {needs} |")
    return lines


def main() -> None:
    work = Path(sys.argv[1])
    need = json.loads((work / "need" / "mismatch.json").read_text())["rows"]
    rows, data = [row(work, name, need) for name in LABELS], need["sft"]["need"]
    write_whole(work / "toy.json", json.dumps({"data": data, "rows": rows}, indent=1) + "\n")
    write_whole(work / "toy.md", "\n".join(table(rows, data)) + "\n")
    print("\n".join(table(rows, data)))


if __name__ == "__main__":
    main()
