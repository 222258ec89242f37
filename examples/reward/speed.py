# SPDX-License-Identifier: Apache-2.0
"""Samples a second of the reward, whole batches as verl scores them: `RewardLoopManager`, its workers on Ray.

    python examples/reward/speed.py --tokenizer MODEL --gsm8k train.jsonl --math train.jsonl --out speed.json

Half of each batch is right, half has its answer altered in value. Timed is what the trainer waits for: sending rows of
tokens to the reward workers, decoding, judging, and the way back. Nothing else should run on the machine.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter

import numpy as np
import ray
import torch
import verl  # noqa: F401  (loads the plugin)
from gold import machine
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from samples import Sample, arguments, load, response
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from verl import DataProto
from verl.experimental.reward_loop import RewardLoopManager

from swarr_verl.files import write_whole

WARM_UP = 64  # samples, in which the workers start


def compose_config(tokenizer: str, workers: int) -> DictConfig:
    overrides = ["+swarr=grpo", "swarr.window=64", f"actor_rollout_ref.model.path={tokenizer}"]
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", [*overrides, f"reward.num_workers={workers}", "data.max_response_length=2048"])


def batch(samples: list[Sample], tokenizer: PreTrainedTokenizerBase) -> DataProto:
    """Return verl's rows: responses of (n, longest) token ids, and the masks of (n, 1 + longest)."""
    texts = [response(s, s.altered if i % 2 else s.gold) for i, s in enumerate(samples)]
    tokens = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    ones = torch.ones(len(texts), 1, dtype=torch.long)
    rows = {
        "data_source": [s.data for s in samples],
        "reward_model": [{"ground_truth": s.gold} for s in samples],
        "extra_info": [{} for _ in samples],
    }
    mask = torch.cat([ones, tokens.attention_mask], dim=1)
    return DataProto.from_dict(
        tensors={"prompts": ones, "responses": tokens.input_ids, "attention_mask": mask},
        non_tensors={key: np.array(value, dtype=object) for key, value in rows.items()},
    )


def measure(manager: RewardLoopManager, batches: list[DataProto]) -> dict:
    start, cpu = time.perf_counter(), time.process_time()
    scored = [manager.compute_rm_score(data).non_tensor_batch for data in batches]
    seconds = time.perf_counter() - start
    acc = np.concatenate([found["acc"] for found in scored])
    return {
        "n": len(acc),
        "seconds": seconds,
        "samples_per_second": len(acc) / seconds,
        "cpu_seconds_of_the_trainer": time.process_time() - cpu,
        "paths": Counter(np.concatenate([found["path"] for found in scored]).tolist()),
        "accuracy": float(acc.mean()),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokenizer", required=True, help="folder or hub name of a model")
    parser.add_argument("--batch", type=int, default=1024, help="samples that verl hands over at once")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="verl's reward.num_workers")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    samples, tokenizer = load(args), AutoTokenizer.from_pretrained(args.tokenizer)
    report = {"command": sys.argv, **machine(args), "cores": os.cpu_count(), "load": os.getloadavg()}
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    manager = RewardLoopManager(compose_config(args.tokenizer, args.workers))
    for data in ("gsm8k", "math"):
        chosen = [s for s in samples if s.data == data]
        manager.compute_rm_score(batch(chosen[:WARM_UP], tokenizer))
        batches = [batch(chosen[i : i + args.batch], tokenizer) for i in range(0, len(chosen), args.batch)]
        report[data] = [measure(manager, batches) for _ in range(args.rounds)]
    print(json.dumps(report, indent=1))
    if args.out:
        write_whole(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
