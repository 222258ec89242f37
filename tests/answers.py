# SPDX-License-Identifier: Apache-2.0
"""Evaluations as examples/gsm8k/evaluate.py writes them."""

import gzip
import json
from pathlib import Path


def write(results: Path, name: str, right: int, samples: int) -> None:
    """An evaluation of 10 problems, the first `right` of them right, of several samples every other one."""
    lines = [
        {"uid": f"{i}_0_{k}", "data_source": "gsm8k", "input": str(i), "gts": "7", "pred": "7"}
        | {"acc": float(i < right and k < max(1, samples // 2)), "tokens": 10, "truncated": i == 9, "output": ""}
        for i in range(10)
        for k in range(samples)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (results / f"eval_{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
