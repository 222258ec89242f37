# SPDX-License-Identifier: Apache-2.0
"""A few lines on where a run stands, from its results folder: `python progress.py RESULTS`."""

import json
import sys
from pathlib import Path

SFT = {"train/loss": "loss", "train/grad_norm": "grad"}
GRPO = {
    "critic/score/mean": "reward",
    "val-core/openai/gsm8k/acc/mean@1": "val",
    "response_length/mean": "len",
    "response_length/clip_ratio": "clip",
    "training/rollout_probs_diff_mean": "diff",
    "actor/grad_norm": "grad",
    "timing_s/step": "s",
    "timing_s/gen": "gen",
    "timing_s/old_log_prob": "logp",
    "timing_s/update_actor": "update",
    "timing_s/testing": "test",
}


def show(log: Path, names: dict[str, str], last: int) -> None:
    lines = log.read_text().splitlines()[-last:] if log.exists() else []
    for line in lines:
        entry = json.loads(line)
        found = {short: entry["data"][key] for key, short in names.items() if key in entry["data"]}
        print(log.stem, entry["step"], " ".join(f"{short}={value:.4g}" for short, value in found.items()))


results = Path(sys.argv[1])
for log in sorted(results.glob("*.jsonl")):
    if log.stem.startswith(("grpo", "rl_")):
        show(log, GRPO, last=8)
    else:
        show(log, SFT, last=1)
