# SPDX-License-Identifier: Apache-2.0
"""THE definition of the window. Every other module asks this one.

A window of W lets a query see W keys, itself included: key k is visible to query q iff ``q - W < k <= q``.
That is what transformers (5.9.0, `masking_utils.sliding_window_overlay`) and vLLM (0.24.0 and 0.28.0) mean by
`sliding_window`; raw flash-attn calls the same window ``(W - 1, 0)``.

A checkpoint says its window in config.json, in four keys that must agree (`use_sliding_window`,
`sliding_window`, `max_window_layers`, `layer_types`): any three of them leave a dense model, silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

SLIDING = "sliding_attention"
FULL = "full_attention"

# Families whose window means the same in transformers, in vLLM and in a saved config.json (tests/parity).
LAYER_TYPED = ("qwen2", "qwen3")  # the window is per layer: `layer_types`
UNIFORM = ("mistral",)  # one `sliding_window` for all layers
FAMILIES = LAYER_TYPED + UNIFORM


class WindowError(ValueError):
    """The window asked for cannot be had. The message names the Hydra key and the remedy."""


@dataclass(frozen=True)
class WindowSpec:
    """What the user asked for.

    Args:
        window: keys a query sees, itself included; tokens, >= 1 (`swarr.window`).
        layers: which layers slide (`swarr.layers`); "all" is the only pattern that vLLM honours for Qwen.

    Raises:
        WindowError: not a window.

    >>> WindowSpec(64).windows(num_layers=2)
    [64, 64]
    """

    window: int
    layers: str = "all"

    def __post_init__(self) -> None:
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise WindowError(
                f"swarr.window={self.window!r} is not a window: give a whole number of tokens >= 1, "
                "e.g. swarr.window=4096 (the query itself counts)."
            )
        if self.layers != "all":
            raise WindowError(
                f"swarr.layers={self.layers!r} is not supported: vLLM runs a Qwen2/Qwen3 hybrid with full attention "
                "in every layer. Use swarr.layers=all."
            )

    def windows(self, num_layers: int) -> list[int | None]:
        """Window of each layer, in tokens; None means full attention."""
        return [self.window] * num_layers


def visible(num_queries: int, num_keys: int, window: int | None) -> torch.Tensor:
    """Who sees whom, the queries being the last `num_queries` of `num_keys` positions.

    Returns:
        Bool tensor of shape (num_queries, num_keys); True where the query sees the key.

    >>> visible(3, 3, 2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    q = torch.arange(num_keys - num_queries, num_keys)[:, None]
    k = torch.arange(num_keys)[None, :]
    return (k <= q) & (k > q - (num_keys if window is None else window))


def visible_pairs(length: int, window: int | None) -> int:
    """How many (query, key) pairs `visible` leaves of one causal sequence of `length` tokens; None is full attention.

    >>> visible_pairs(3, 2), visible_pairs(3, None)
    (5, 6)
    """
    window = length if window is None else min(window, length)
    return window * (window + 1) // 2 + (length - window) * window


def check_family(hf_config: PretrainedConfig) -> None:
    """Refuse, by name, a family whose window is not proven equal on both sides.

    Raises:
        WindowError: unsupported `model_type`.
    """
    if hf_config.model_type not in FAMILIES:
        raise WindowError(
            f"model.path: a window is not supported for the family {hf_config.model_type!r} "
            f"(supported: {', '.join(FAMILIES)}). transformers or vLLM would ignore the window, or read it otherwise, "
            "without a word. Choose a checkpoint of a supported family."
        )


def config_windows(hf_config: PretrainedConfig) -> list[int | None]:
    """Window of each layer that transformers will build from this config, in tokens; None is full attention."""
    num_layers, window = hf_config.num_hidden_layers, getattr(hf_config, "sliding_window", None)
    if hf_config.model_type in UNIFORM:
        return [window] * num_layers
    return [window if kind == SLIDING else None for kind in hf_config.layer_types]


def window_keys(hf_config: PretrainedConfig) -> dict[str, Any]:
    """The keys of config.json that carry the window, as they are in `hf_config` (vLLM's `hf_overrides`)."""
    if hf_config.model_type in UNIFORM:
        return {"sliding_window": hf_config.sliding_window}
    return {
        "use_sliding_window": hf_config.use_sliding_window,
        "sliding_window": hf_config.sliding_window,
        "max_window_layers": hf_config.max_window_layers,
        "layer_types": list(hf_config.layer_types),
    }


def apply_window(hf_config: PretrainedConfig, spec: WindowSpec) -> None:
    """Write the window into `hf_config`, in place, so that the model built from it and the saved config.json have it.

    Raises:
        WindowError: unsupported family, or a checkpoint that already has another window.
    """
    check_family(hf_config)
    wanted, own = spec.windows(hf_config.num_hidden_layers), config_windows(hf_config)
    if any(own) and own != wanted:
        raise WindowError(
            f"swarr.window={spec.window}, but the checkpoint at model.path has the windows {describe(own)}. Set "
            "swarr.window to the checkpoint's own, or start from the checkpoint it was converted from."
        )
    hf_config.sliding_window = spec.window
    if hf_config.model_type in LAYER_TYPED:
        hf_config.use_sliding_window = True
        hf_config.max_window_layers = 0
        hf_config.layer_types = [SLIDING] * hf_config.num_hidden_layers
    assert config_windows(hf_config) == wanted


def module_windows(model: nn.Module) -> list[int | None]:
    """Window of each layer that a built transformers model applies, in tokens; None is full attention.

    A layer takes its window twice: the attention module hands `sliding_window` to the flash kernels, and the model
    builds the mask of the sdpa and eager kernels from the config. Both are read, and must agree.

    Raises:
        WindowError: the two disagree, or the model has no layers that this function knows.
    """
    attentions = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "q_proj")]
    if not attentions:
        raise WindowError(f"model.path: no attention layers found in {type(model).__name__}.")
    kernels = [getattr(m, "sliding_window", m.config.sliding_window) for m in attentions]
    masks = config_windows(attentions[0].config)
    if kernels != masks:
        raise WindowError(f"The kernels' windows {describe(kernels)} differ from the masks' {describe(masks)}.")
    return kernels


def describe(windows: list[int | None]) -> str:
    """Windows in runs, for messages.

    >>> describe([64, 64, None])
    '64 (layers 0-1), full (layer 2)'
    """
    runs: list[tuple[int | None, int, int]] = []
    for i, window in enumerate(windows):
        if runs and runs[-1][0] == window:
            runs[-1] = (window, runs[-1][1], i)
        else:
            runs.append((window, i, i))
    return ", ".join(
        f"{'full' if w is None else w} ({f'layer {a}' if a == b else f'layers {a}-{b}'})" for w, a, b in runs
    )
