# SPDX-License-Identifier: Apache-2.0
"""Samples a second of the reward, whole batches as verl's reward worker scores them (`RewardLoopWorker`).

    python examples/reward/speed.py --gsm8k train.jsonl --math train.jsonl --out examples/reward/results/speed.json

Half of each batch is right, half has its answer altered in value. Tokens are characters: a real tokenizer's decoding
comes on top, and is verl's with any reward. Besides wall-clock time the CPU time of this process and of the workers is
given, which other jobs on the machine disturb less.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import torch
from gold import machine
from omegaconf import OmegaConf
from samples import Sample, arguments, load, response
from verl import DataProto

from swarr_verl.grading_pool import shared_pool
from swarr_verl.reward import SwarrRewardManager


class Characters:
    """A tokenizer of one token a character."""

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool = True) -> str:
        return np.asarray(ids, dtype=np.uint32).tobytes().decode("utf-32-le")


def batch(samples: list[Sample]) -> DataProto:
    """Return the rows of verl's batch: responses of (n, longest) token ids, and the masks of (n, 1 + longest)."""
    texts = [response(s, s.altered if i % 2 else s.gold)[-2000:] for i, s in enumerate(samples)]
    lengths = torch.tensor([len(text) for text in texts])
    ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = torch.tensor([ord(c) for c in text])
    mask = torch.cat([torch.ones(len(texts), 1), torch.arange(ids.shape[1])[None] < lengths[:, None]], dim=1).long()
    rows = {
        "data_source": [s.data for s in samples],
        "reward_model": [{"ground_truth": s.gold} for s in samples],
        "extra_info": [{} for _ in samples],
    }
    return DataProto.from_dict(
        tensors={"prompts": torch.ones(len(texts), 1, dtype=torch.long), "responses": ids, "attention_mask": mask},
        non_tensors={key: np.array(value, dtype=object) for key, value in rows.items()},
    )


async def score(manager: SwarrRewardManager, data: DataProto) -> list[dict]:
    """As `RewardLoopWorker.compute_score_batch` (verl/experimental/reward_loop/reward_loop.py) does."""
    tasks = [asyncio.create_task(manager.run_single(data[i : i + 1])) for i in range(len(data))]
    return await asyncio.gather(*tasks)


def cpu_seconds() -> float:
    """CPU time so far of this process and of its live workers."""
    processes = [psutil.Process(), *(psutil.Process(pid) for pid in shared_pool().pids())]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def measure(samples: list[Sample], size: int) -> dict:
    config = {"reward": {"reward_kwargs": {"deadline": 60.0}}, "data": {"max_response_length": 2000}}
    manager = SwarrRewardManager(OmegaConf.create(config), Characters())
    await score(manager, batch(samples[:64]))  # workers start
    batches = [batch(samples[i : i + size]) for i in range(0, len(samples), size)]
    start, cpu, results = time.perf_counter(), cpu_seconds(), []
    for data in batches:
        results += await score(manager, data)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    infos = [result["reward_extra_info"] for result in results]
    return {
        "n": len(samples),
        "batch": size,
        "seconds": seconds,
        "samples_per_second": len(samples) / seconds,
        "cpu_seconds": cpu,
        "samples_per_cpu_second": len(samples) / cpu,
        "paths": Counter(info["path"] for info in infos),
        "accuracy": sum(info["acc"] for info in infos) / len(infos),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, default=512, help="samples that verl hands over at once")
    args = parser.parse_args()
    samples = load(args)
    report = {"command": sys.argv, **machine(args), "cores": os.cpu_count(), "load": os.getloadavg()}
    for data in ("gsm8k", "math"):
        report[data] = asyncio.run(measure([s for s in samples if s.data == data], args.batch))
    print(json.dumps(report, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
