# SPDX-License-Identifier: Apache-2.0
"""For step.sh: `step.py make SHAPE TOKENIZER FOLDER` makes a model of random weights; `step.py table RESULTS WINDOW`
writes table.md and table.json of the runs that are there, from verl's own metrics.
"""

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

PARTS = {  # of a step, as verl names them
    "timing_s/gen": "generation, s",
    "timing_s/old_log_prob": "old log-probs, s",
    "timing_s/update_actor": "update, s",
    "timing_s/update_weights": "weight sync, s",
    "timing_s/step": "whole step, s",
    "actor/perf/max_memory_reserved_gb": "trainer's peak memory, GB",
}


def make(shape: str, tokenizer: str, folder: Path) -> None:
    """A checkpoint of one of `bench`'s shapes; whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from swarr_verl.bench import shape as config_of

    part = folder.with_name(f"{folder.name}.part")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config_of(shape), dtype=torch.bfloat16).save_pretrained(part)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def medians(steps: list[dict[str, float]]) -> dict[str, Any]:
    """Of each part over steps; and what was generated."""
    found = {key: statistics.median(step[key] for step in steps) for key in PARTS}
    return found | {"steps": len(steps), "tokens": statistics.median(step["perf/total_num_tokens"] for step in steps)}


def rows_of(results: Path) -> list[dict[str, Any]]:
    """One a run, named step_SHAPE_LENGTH_ATTENTION; without its first step, which compiles and captures."""
    rows = []
    for log in results.glob("step_*.jsonl"):
        _, shape, length, attention = log.stem.split("_")
        if steps := [json.loads(line)["data"] for line in log.read_text().splitlines()][1:]:
            rows.append({"shape": shape, "length": int(length), "attention": attention, **medians(steps)})
    return sorted(rows, key=lambda row: (row["shape"], row["length"], row["attention"]))


def table(rows: list[dict[str, Any]], window: int) -> str:
    """Markdown: a line a part; full attention, the window, how many times less."""
    lines = [f"Medians over the steps after the first. SWA: window {window}."]
    runs = {(row["shape"], row["length"], row["attention"]): row for row in rows}
    for shape, length in dict.fromkeys((row["shape"], row["length"]) for row in rows):
        pair = [runs.get((shape, length, attention)) for attention in ("SA", "SWA")]
        lines += [
            "",
            f"## {shape}, responses of {length:,} tokens",
            "",
            "| part | SA | SWA | SA / SWA |",
            "|---|---|---|---|",
        ]
        for key, label in PARTS.items():
            full, windowed = (row and row[key] for row in pair)
            ratio = f"{full / windowed:.2f}" if full and windowed else "-"
            cells = [f"{value:.3g}" if value is not None else "-" for value in (full, windowed)]
            lines.append(f"| {label} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
        return
    from swarr_verl.files import write_whole

    results, rows = Path(sys.argv[2]), rows_of(Path(sys.argv[2]))
    text = table(rows, int(sys.argv[3]))
    write_whole(results / "table.json", json.dumps(rows, indent=1) + "\n")
    write_whole(results / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
