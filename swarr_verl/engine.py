# SPDX-License-Identifier: Apache-2.0
"""vLLM as an offline engine under the window of a config, which the live engine has confirmed. Imports vLLM."""

from __future__ import annotations

import os
from typing import Any

from transformers import PretrainedConfig
from vllm import LLM

from swarr_verl.families import config_windows, window_keys
from swarr_verl.verify import EngineWindow, compare
from swarr_verl.window import describe


def window_engine(model: str, config: PretrainedConfig, **arguments: Any) -> LLM:
    """Start vLLM on a checkpoint; its workers are asked, layer by layer, before a token is generated.

    Args:
        model: folder of the checkpoint, or its name on the hub.
        config: its config, or another of its window (`swarr_verl.families.apply_window`).
        arguments: more of `vllm.LLM`'s.

    Raises:
        WindowError: an unsupported family, or a layer that applies another window than the config says.
    """
    windows = config_windows(config)
    # Where verl was imported first, it has counted the GPUs in this process: a forked engine then fails ("Cannot
    # re-initialize CUDA"), and vLLM spawns by itself only after more than that. It has no other switch.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    llm = LLM(
        model=model,
        hf_overrides=window_keys(config) if any(windows) else {},
        worker_extension_cls="swarr_verl.rollout_worker.SwarrWorkerExtension",
        **arguments,
    )
    for answer in llm.collective_rpc("swarr_windows"):
        compare(windows, {layer: EngineWindow(*found) for layer, found in answer})
    print(f"[swarr] vLLM confirms the window: {describe(windows)}", flush=True)
    return llm
