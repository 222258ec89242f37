# SPDX-License-Identifier: Apache-2.0
"""Runs inside every vLLM worker: says what window its layers really use."""

from __future__ import annotations

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from vllm.model_executor.models.utils import extract_layer_index

from swarr_verl.verify import EngineWindow
from swarr_verl.window import WindowError


def _kernel_window(impl: Any) -> int | None:
    """Window of an attention implementation, in tokens; None is full attention.

    FlashAttention and its kin keep flash-attn's pair (W - 1, 0), full being (-1, -1); vLLM's CPU kernel keeps W,
    full being -1 (vLLM 0.24.0 `v1/attention/backends/flash_attn.py:650`, 0.28.0 `cpu_attn.py:320`).
    """
    found = impl.sliding_window
    if isinstance(found, tuple):
        return None if found[0] < 0 else found[0] + 1
    return None if found is None or found < 0 else found


class SwarrWorkerExtension(vLLMColocateWorkerExtension):
    """verl's worker extension (weight sync, LoRA) and one question more."""

    def swarr_windows(self) -> list[tuple[int, EngineWindow]]:
        """Layer index and window of every attention layer on this worker, from the kernels and KV-cache groups.

        Raises:
            WindowError: an attention layer keeps no KV cache.
        """
        layers = self.model_runner.vllm_config.compilation_config.static_forward_context
        kept = {}
        for group in self.model_runner.kv_cache_config.kv_cache_groups:
            specs = getattr(group.kv_cache_spec, "kv_cache_specs", None)  # UniformTypeKVCacheSpecs holds one a layer
            for name in group.layer_names:
                kept[name] = specs[name] if specs else group.kv_cache_spec
        answer = []
        for name, layer in layers.items():
            if not hasattr(layer, "impl"):
                continue
            if name not in kept:
                raise WindowError(f"vLLM's layer {name} is in no KV-cache group: its window cannot be read.")
            window = EngineWindow(_kernel_window(layer.impl), getattr(kept[name], "sliding_window", None))
            answer.append((extract_layer_index(name), window))
        return answer
