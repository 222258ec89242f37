# SPDX-License-Identifier: Apache-2.0
"""How each model family says its window: in a config, in a built transformers model, and to vLLM.

Qwen2 and Qwen3 say it in four keys of config.json that must agree (`use_sliding_window`, `sliding_window`,
`max_window_layers`, `layer_types`): any three of them leave a dense model, silently. Families without a window in
transformers are built as a twin: another architecture with the same weights that has one. examples/window has
what tests/parity finds of each.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from swarr_verl.window import WindowError, WindowSpec, describe

SLIDING = "sliding_attention"
FULL = "full_attention"


@dataclass(frozen=True)
class Family:
    """What a `model_type` of transformers 5.9 makes of its config.

    Args:
        per_layer: it reads `layer_types`; else one `sliding_window` holds for all layers.
        windowed: it applies a window at all.
        qwen_keys: it drops `sliding_window` unless `use_sliding_window` is set.
        uniform_twin: family to build instead when all layers slide.
        hybrid_twin: family to build instead when some layers keep full attention.
        hybrid_vllm: architecture that vLLM must build for a hybrid, where its own ignores `layer_types`
            (registered by vllm_plugin.py).
    """

    per_layer: bool = False
    windowed: bool = True
    qwen_keys: bool = False
    uniform_twin: str | None = None
    hybrid_twin: str | None = None
    hybrid_vllm: str | None = None

    @property
    def has_hybrids(self) -> bool:
        """Whether some of its layers may keep full attention."""
        return self.per_layer or self.hybrid_twin is not None


FAMILIES = {
    "qwen2": Family(per_layer=True, qwen_keys=True, hybrid_vllm="SwarrQwen2ForCausalLM"),
    "qwen3": Family(per_layer=True, qwen_keys=True, hybrid_vllm="SwarrQwen3ForCausalLM"),
    "qwen3_moe": Family(qwen_keys=True),
    "mistral": Family(hybrid_twin="ministral"),
    "ministral": Family(per_layer=True),
    "llama": Family(windowed=False, uniform_twin="mistral", hybrid_twin="ministral"),
    "phi3": Family(),
    "olmo2": Family(windowed=False, uniform_twin="olmo3", hybrid_twin="olmo3"),
    "olmo3": Family(per_layer=True),
}


def family_of(hf_config: PretrainedConfig) -> Family:
    """The family of a config.

    Raises:
        WindowError: its window is not proven equal on both sides.
    """
    family = FAMILIES.get(hf_config.model_type)
    if family is None:
        raise WindowError(
            f"model.path: a window is not supported for the family {hf_config.model_type!r} "
            f"(supported: {', '.join(FAMILIES)}). transformers or vLLM would ignore the window, or read it otherwise, "
            "without a word. Choose a checkpoint of a supported family."
        )
    return family


def config_windows(hf_config: PretrainedConfig) -> list[int | None]:
    """Window of each layer that transformers will build from this config, in tokens; None is full attention."""
    family = family_of(hf_config)
    window = _window_of(hf_config)
    if family.per_layer:
        return [window if kind == SLIDING else None for kind in hf_config.layer_types]
    return [window] * hf_config.num_hidden_layers


def _window_of(hf_config: PretrainedConfig) -> int | None:
    return getattr(hf_config, "sliding_window", None) if family_of(hf_config).windowed else None


def apply_window(hf_config: PretrainedConfig, spec: WindowSpec, narrow: bool = False) -> PretrainedConfig:
    """A config whose model has the window, built and saved: of the same family, or of its twin.

    Args:
        hf_config: of the checkpoint.
        spec: the window.
        narrow: a checkpoint's own window may be wider. Without, an override meant for another checkpoint is an error.

    Raises:
        WindowError: unsupported family or pattern, or a checkpoint that already has another window.
    """
    family, wanted = family_of(hf_config), spec.windows(hf_config.num_hidden_layers)
    own = config_windows(hf_config)
    longest = hf_config.max_position_embeddings  # Phi-3 says "none" by a window that no sequence outgrows
    for its, asked in zip(own, wanted, strict=True):
        fits = its is None or its >= longest or its == asked or (narrow and asked is not None and asked < its)
        if not fits:
            raise WindowError(
                f"swarr.window={spec.window} with swarr.layers={spec.layers} asks for {describe(wanted)}, but the "
                f"checkpoint at model.path has the windows {describe(own)}. Set swarr.window and swarr.layers to the "
                "checkpoint's own, narrow it first with `python -m swarr_verl convert`, or start from the checkpoint "
                "it was converted from."
            )
    hybrid = None in wanted
    if hybrid and not family.has_hybrids:
        raise WindowError(
            f"swarr.layers={spec.layers}: {hf_config.model_type} has one window for all layers. Use swarr.layers=all."
        )
    twin = family.hybrid_twin if hybrid else family.uniform_twin
    windowed = deepcopy(hf_config) if twin is None else _twin(hf_config, twin)
    family = FAMILIES[windowed.model_type]
    _check_rope(windowed)
    windowed.sliding_window = spec.window
    if family.qwen_keys:
        windowed.use_sliding_window = True
        windowed.max_window_layers = 0  # a hybrid then stops stock vLLM, which would run it dense
    if family.per_layer:
        windowed.layer_types = [FULL if window is None else SLIDING for window in wanted]
    return windowed


def _twin(hf_config: PretrainedConfig, model_type: str) -> PretrainedConfig:
    """The same network as another architecture: equal parameter names, equal arithmetic.

    Raises:
        WindowError: a parameter that the twin does not have.
    """
    for key in ("attention_bias", "mlp_bias"):
        if getattr(hf_config, key, False):
            raise WindowError(
                f"model.path: {hf_config.model_type} is built as {model_type}, which has no biases, but the "
                f"checkpoint has {key}=true. Choose a checkpoint without."
            )
    values = hf_config.to_dict()
    for key in ("model_type", "attention_bias", "mlp_bias", "pretraining_tp", "sliding_window", "layer_types"):
        values.pop(key, None)
    values["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]]
    twin = AutoConfig.for_model(model_type, **values)
    twin._attn_implementation = hf_config._attn_implementation
    return twin


SCALED_ROPE = {  # families in which transformers 5.9.0 and vLLM (0.24.0) scale RoPE differently
    "olmo3": "vLLM scales it in full layers only (olmo2.py:141), transformers in all",
    "phi3": "transformers changes factors at a sequence's length, vLLM once, at its max_model_len",
}


def _check_rope(hf_config: PretrainedConfig) -> None:
    kind, reason = hf_config.rope_parameters.get("rope_type", "default"), SCALED_ROPE.get(hf_config.model_type)
    if reason and kind != "default":
        raise WindowError(
            f"model.path: rope_type={kind!r} of {hf_config.model_type} is not the same on both sides: {reason}. "
            "Choose a checkpoint without RoPE scaling."
        )


def window_keys(hf_config: PretrainedConfig) -> dict[str, Any]:
    """What carries the window to vLLM (`hf_overrides`), whatever checkpoint it loads: SA or converted."""
    family = family_of(hf_config)
    keys = ["sliding_window"]
    if family.qwen_keys:
        keys += ["use_sliding_window", "max_window_layers"]
    if family.per_layer:
        keys += ["layer_types"]
    overrides = {key: deepcopy(getattr(hf_config, key)) for key in keys}
    if family.hybrid_vllm and None in config_windows(hf_config):
        overrides["architectures"] = [family.hybrid_vllm]
    return overrides


def module_windows(model: nn.Module) -> list[int | None]:
    """Window of each layer that a built transformers model applies, in tokens; None is full attention.

    A layer takes its window twice: the attention module hands `sliding_window` to the flash kernels, and the model
    builds the mask of the sdpa and eager kernels from the config. Both are read, and must agree.

    Raises:
        WindowError: the two disagree, or the model has no layers that this function knows.
    """
    attentions = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "o_proj")]
    if not attentions:
        raise WindowError(f"model.path: no attention layers found in {type(model).__name__}.")
    config = attentions[0].config
    masks = config_windows(config)
    kernels = [getattr(m, "sliding_window", _window_of(config)) for m in attentions]
    if kernels != masks:
        raise WindowError(f"The kernels' windows {describe(kernels)} differ from the masks' {describe(masks)}.")
    return kernels
