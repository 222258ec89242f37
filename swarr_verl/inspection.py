# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl inspect PATH`: what transformers and vLLM make of a checkpoint's window, its cost, settings.

Reads the config alone. Exits 1 where the two differ: trained and served, such a checkpoint is two models.
"""

from __future__ import annotations

from transformers import AutoConfig, PretrainedConfig

from swarr_verl import advice
from swarr_verl.cost import kept_bytes, kv_bytes_per_token
from swarr_verl.families import FAMILIES, SLIDING, config_windows
from swarr_verl.window import describe


def vllm_windows(hf_config: PretrainedConfig) -> list[int | None]:
    """Window of each layer that vLLM (0.24.0, 0.28.0) with this plugin builds from this config alone; tokens.

    `sliding_window` holds for all layers, whatever the architecture makes of it in transformers, unless `layer_types`
    mixes kinds (vllm/engine/arg_utils.py, `is_interleaved`).
    """
    window = getattr(hf_config, "sliding_window", None)
    kinds = getattr(hf_config, "layer_types", None) or []
    if len(set(kinds)) > 1:
        return [window if kind == SLIDING else None for kind in kinds]
    return [window] * hf_config.num_hidden_layers


def inspect(path: str, length: int, memory: int) -> int:
    """Print the report for sequences of `length` tokens on a card of `memory` bytes; the exit code."""
    config = AutoConfig.from_pretrained(path)
    if config.model_type not in FAMILIES:
        print(f"{path}: family {config.model_type}, not supported (supported: {', '.join(FAMILIES)})")
        return 1
    trained, served = config_windows(config), vllm_windows(config)
    token, layers = kv_bytes_per_token(config), config.num_hidden_layers
    full, kept = kept_bytes(token, [None] * layers, length), kept_bytes(token, served, length)
    rows = {
        "family": config.model_type,
        "transformers": describe(trained),
        "vLLM": describe(served),
        "KV cache": f"{token * layers:,} bytes a token, {token:,} in each of {layers} layers",
        f"at {length:,} tokens": f"{kept:,} bytes a sequence; full attention {full:,} ({full / kept:.2f} times)",
    }
    print("\n".join(f"{name:<20} {text}" for name, text in rows.items()))
    if FAMILIES[config.model_type].hybrid_vllm and None in served and any(served):
        print(
            "Stock vLLM refuses this hybrid: see `python -m swarr_verl convert` for the override that this plugin adds."
        )
    if trained != served:
        print(
            "DIFFERENT: training and serving would be two models. Make the window anew from the SA checkpoint: "
            "python -m swarr_verl convert SRC DST --window W"
        )
        return 1
    print("\n".join(advice.report(config, length, memory)))
    return 0
