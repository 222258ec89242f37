# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen3 in vLLM with a window in some layers: what `layer_types` says, not what vLLM makes of it.

vLLM 0.24.0 and 0.28.0 build both with full attention in every layer as soon as one layer is full, and guard that
by an assertion on `max_window_layers` (models/qwen2.py). Registered by vllm_plugin.py under names of their own, and
chosen through `hf_overrides` (families.py, `hybrid_vllm`): nobody else's Qwen changes.
"""

from __future__ import annotations

from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

from swarr_verl.families import SLIDING


class _Hybrid:
    """Mixin: build the model as vLLM does, then the attention of the sliding layers again, with its window."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        config = vllm_config.model_config.hf_config
        config.max_window_layers = config.num_hidden_layers  # the assertion; nothing else reads it
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        model = self.model  # type: ignore[attr-defined]
        for index in range(model.start_layer, model.end_layer):
            if config.layer_types[index] == SLIDING:
                _slide(model.layers[index].self_attn, config.sliding_window, vllm_config)


def _slide(attention: nn.Module, window: int, vllm_config: VllmConfig) -> None:
    """Build the attention layer of a Qwen attention block again, with a window in tokens."""
    dense = attention.attn
    del vllm_config.compilation_config.static_forward_context[dense.layer_name]
    attention.attn = Attention(
        attention.num_heads,
        attention.head_dim,
        attention.scaling,
        num_kv_heads=attention.num_kv_heads,
        cache_config=vllm_config.cache_config,
        quant_config=dense.quant_config,
        per_layer_sliding_window=window,
        prefix=dense.layer_name,
    )


class SwarrQwen2ForCausalLM(_Hybrid, Qwen2ForCausalLM):
    """Qwen2 and Qwen2.5."""


class SwarrQwen3ForCausalLM(_Hybrid, Qwen3ForCausalLM):
    """Qwen3, dense."""
