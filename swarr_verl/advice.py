# SPDX-License-Identifier: Apache-2.0
"""Rollout settings for a window: verl's and vLLM's defaults are made for full attention, whose cache grows without end.

Under a window a sequence keeps the same few blocks at any length, so that more of them decode together in less memory;
what is left is the trainer's. By arithmetic, from a config and a card's memory.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from transformers import PretrainedConfig

from swarr_verl.cost import MOST, Cost
from swarr_verl.families import config_windows

ROLLOUT = "actor_rollout_ref.rollout"
LARGEST_GRAPH = 512  # that vLLM captures by itself (vllm/config/vllm.py): larger batches run without a graph
BESIDE = 4 << 30  # bytes for activations, logits and CUDA graphs; an estimate
SHARE = 0.9  # of a card, at most
CARD = 80  # GiB, where there is none
# vLLM's second model runner takes less Python a sequence; its own default for some models only, and by this alone.
RUNNER = "+ray_kwargs.ray_init.runtime_env.env_vars.VLLM_USE_V2_MODEL_RUNNER='1'"


def graph_sizes(sequences: int) -> list[int]:
    """Decode batches to capture: doubling to 64, then steps of an eighth of the power of two above, `sequences` last.

    >>> graph_sizes(100)
    [1, 2, 4, 8, 16, 32, 64, 80, 96, 100]
    """
    sizes, size = [], 1
    while size < sequences:
        sizes.append(size)
        size += size if size < 64 else (1 << size.bit_length()) // 8
    return [*sizes, sequences]


def advise(cost: Cost, length: int, memory: int) -> dict[str, Any] | None:
    """Choose settings of a rollout for sequences of `length` tokens, prompt and response, on a card of `memory` bytes.

    Returns:
        By key of verl's rollout config; None where not one sequence fits.
    """
    sequences = min(fitting(cost, length, memory), MOST)
    if sequences == 0:
        return None
    needed = cost.weights + BESIDE + sequences * cost.kept(length)
    return {
        "max_num_seqs": sequences,
        # Both as in verl: a chunk of prefill keeps no more than itself and a window, and the rollouts of a prompt after
        # the first find its last window cached.
        "max_num_batched_tokens": 8192,
        "enable_prefix_caching": True,
        "gpu_memory_utilization": min(SHARE, math.ceil(20 * needed / memory) / 20),
        "cudagraph_capture_sizes": graph_sizes(sequences) if sequences > LARGEST_GRAPH else None,
    }


def fitting(cost: Cost, length: int, memory: int) -> int:
    """Sequences of `length` tokens that fit beside weights and BESIDE into SHARE of a card of `memory` bytes."""
    return cost.sequences(length, SHARE * memory - BESIDE)


def card() -> int:
    """Bytes of this machine's first GPU, or of a card of 80 GiB."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else CARD << 30


def report(config: PretrainedConfig, length: int, memory: int) -> list[str]:
    """Lines for the command line: how many sequences fit, and the overrides for verl.

    The second runner is advised where it ran (examples/rollout): one window in all layers, on one GPU.
    """
    cost = Cost.of(config, config_windows(config))
    full = replace(cost, windows=(None,) * len(cost.windows))
    fit, dense = (f"{fitting(one, length, memory):,}" for one in (cost, full))
    lines = [
        f"On a card of {memory / 2**30:.0f} GiB {fit} sequences of {length:,} tokens fit beside the weights "
        f"(full attention: {dense}). By arithmetic:"
    ]
    if found := advise(cost, length, memory):
        texts = {key: "null" if value is None else str(value).replace(" ", "") for key, value in found.items()}
        lines += [f"  {ROLLOUT}.{key}={text}" for key, text in texts.items()]
        if len(set(cost.windows)) == 1 and cost.windows[0] is not None:
            lines += ["On a GPU, with vLLM's second model runner, which takes less Python a sequence:", f'  "{RUNNER}"']
        return lines
    return [*lines, f"  {ROLLOUT}.tensor_model_parallel_size=2, or more: it does not fit"]
