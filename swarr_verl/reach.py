# SPDX-License-Identifier: Apache-2.0
"""Reach: the share of a model's attention that lies on keys older than a window, in each layer and head.

Attention weights cannot be had from kernels that do not keep them, and are T x T where they can. Hence an attention
function of transformers' own registry (5.9.0, `AttentionInterface`): sdpa, which beside its output adds up the weights
of a block of queries at a time. Memory grows with T.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from swarr_verl.need import Text
from swarr_verl.window import visible

METERED = "swarr_metered"
BLOCK = 128  # queries; times the heads and the keys: numbers in memory


@dataclass
class _Meter:
    """What the attention function is told, and what it finds: a tensor (heads,) a layer."""

    window: int
    first: int  # query that counts
    block: int
    shares: list[Tensor] = field(default_factory=list)


def reach(model: PreTrainedModel, text: Text, window: int, block: int = BLOCK) -> Tensor:
    """Share of attention on keys that a window hides, a mean over the tokens of a response.

    The queries are those that `need.nll` scores: each predicts a token of the response, behind all of its context. One
    with no more context than the window has none older.

    Args:
        model: a causal LM of full attention; its dtype and device. Weights are fp32 at least.
        text: a prompt with its response.
        window: keys that a query would see, itself included; tokens, >= 1.
        block: queries at a time.

    Returns:
        (layers, heads) of 0 to 1, float32, or float64 of a model of float64.

    Raises:
        ValueError: attention that this is not the measure of: of a window, a softcap or sinks.
    """
    tokens, prompt = text
    meter = _Meter(window, prompt - 1, block)
    with _metering(model), torch.inference_mode():
        model(tokens[None, :-1], logits_to_keep=1, use_cache=False, swarr_meter=meter)
    return torch.stack(meter.shares)


@contextmanager
def _metering(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(METERED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _metered(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers makes no mask for a name that its registry of masks lacks: sdpa is causal then."""
    if lacks := [name for name in ("sliding_window", "softcap", "s_aux") if options.get(name) is not None]:
        raise ValueError(f"reach is measured of full attention, without {', '.join(lacks)}")
    meter = options.pop("swarr_meter")
    meter.shares.append(_older(query[0], key[0], options["scaling"], meter))
    return sdpa_attention_forward(module, query, key, value, None, **options)


def _older(query: Tensor, key: Tensor, scaling: float, meter: _Meter) -> Tensor:
    """(heads,) of query (heads, T, head_dim) and key (kv_heads, T, head_dim): kv_heads serve as many heads each."""
    if query.dtype != torch.float64:
        query, key = query.float(), key.float()
    queries = (query * scaling).unflatten(0, (len(key), -1))  # (kv_heads, heads of each, T, head_dim)
    (heads, length, _), total = query.shape, query.new_zeros(len(query))
    for begin in range(meter.first, length, meter.block):
        end = min(begin + meter.block, length)
        scores = (queries[:, :, begin:end].flatten(1, 2) @ key[:, :end].mT).view(heads, end - begin, end)
        with query.device:  # where masks are made
            causal, near = (visible(end - begin, end, window) for window in (None, meter.window))
        weights = scores.masked_fill_(~causal, -torch.inf).softmax(-1)
        total += weights.masked_fill_(near, 0).sum((1, 2))
    return total / (length - meter.first)


AttentionInterface.register(METERED, _metered)
