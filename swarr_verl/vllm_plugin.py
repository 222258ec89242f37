# SPDX-License-Identifier: Apache-2.0
"""Entry point of group `vllm.general_plugins`: called in every vLLM process, before a model is built.

vLLM lets an error in `register` through (vllm/plugins/__init__.py, load_general_plugins): it is loud.
"""

import gc
import os
from multiprocessing import current_process

ARCHITECTURES = {  # by name only: vLLM imports what it builds
    "SwarrQwen2ForCausalLM": "swarr_verl.vllm_hybrid:SwarrQwen2ForCausalLM",
    "SwarrQwen3ForCausalLM": "swarr_verl.vllm_hybrid:SwarrQwen3ForCausalLM",
    # transformers' Mistral with a window of its own for each layer; vLLM's Mistral reads `layer_types`.
    "MinistralForCausalLM": "vllm.model_executor.models.mistral:MistralForCausalLM",
}

# Processes that hold the tokens of running requests, by the names that vLLM gives them (v1/engine/utils.py:167,
# v1/executor/multiproc_executor.py:694; 0.24.0).
HOLDERS = "EngineCore", "VllmWorker"
RARELY = 1000  # collections of the middle generation before a full one may come; Python's own is 10


def collect_rarely() -> None:
    """In a process of vLLM's engine, have Python's collector look through everything a hundred times less often.

    It visits each token of each running request, 0.3 s for 1024 of 32,768 tokens, and what it looks for is not among
    them; vLLM only keeps it from what is there at the start (examples/rollout has what that costs).
    """
    if current_process().name.startswith(HOLDERS):
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, RARELY)


def register() -> None:
    """Register the hybrids and the mended FLASH_ATTN; on the CPU platform of verl, keep weights as loaded.

    Weight sync needs plain weights. A vLLM that serves outside verl, or not on a CPU, keeps its packed ones.
    """
    collect_rarely()
    from vllm import ModelRegistry
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    known = ModelRegistry.get_supported_archs()
    for name, where in ARCHITECTURES.items():
        if name not in known:
            ModelRegistry.register_model(name, where)
    if not AttentionBackendEnum.FLASH_ATTN.is_overridden():  # another plugin's stays
        register_backend(AttentionBackendEnum.FLASH_ATTN, "swarr_verl.vllm_flash.WindowFlashAttentionBackend")
    if os.environ.get("VERL_PLATFORM", "").strip().lower() != "cpu":
        return
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from swarr_verl.platforms import cpu

        cpu.keep_plain_weights()
