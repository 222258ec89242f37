# SPDX-License-Identifier: Apache-2.0
"""The SWA model wrapper: verl's HFModelConfig with the window applied to `hf_config`, and asserted on what is built.

Selected by `_target_` (`actor_rollout_ref.model`, `critic.model`; `model` in SFT). Every verl process builds it,
and every engine (actor, reference, critic, SFT, rollout server) reads `hf_config` from it, so all share one window.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn
from transformers.utils import is_flash_attn_2_available
from verl.utils.device import get_device_name, get_vendor
from verl.workers.config import HFModelConfig
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead

from swarr_verl import flops  # noqa: F401  (counts the window in verl's FLOPs)
from swarr_verl.families import apply_window, module_windows
from swarr_verl.window import WindowError, WindowSpec, describe

_WINDOW_KEYS = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")


@dataclass
class SwarrModelConfig(HFModelConfig):
    """verl 0.9.1's model config with one more field.

    Args:
        swarr: the `swarr` config group (`window`, `layers`).

    Raises:
        WindowError: the window, the family, the checkpoint or the kernel does not fit; names key and remedy.
    """

    _mutable_fields = HFModelConfig._mutable_fields

    swarr: Any = None

    def __post_init__(self) -> None:
        spec = self.window_spec
        for key in _WINDOW_KEYS:
            if key in self.override_config:
                raise WindowError(
                    f"model.override_config.{key} is a second owner of the window: remove it, set swarr.window."
                )
        self._check_kernel()
        super().__post_init__()
        self.hf_config: Any = apply_window(self.hf_config, spec)
        self.architectures = self.hf_config.architectures

    @property
    def window_spec(self) -> WindowSpec:
        """The window asked for."""
        knobs = OmegaConf.to_container(self.swarr) if isinstance(self.swarr, DictConfig) else self.swarr
        if not isinstance(knobs, dict) or "window" not in knobs:
            raise WindowError("model.swarr is missing: select the plugin's config with +swarr=sft or +swarr=rl.")
        return WindowSpec.of(knobs)

    def assert_windows(self, model: nn.Module) -> None:
        """Check every layer of a built model against `swarr.window`.

        Raises:
            WindowError: a layer applies another window.
        """
        wanted, found = self.window_spec.windows(self.hf_config.num_hidden_layers), module_windows(model)
        if found != wanted:
            raise WindowError(f"swarr.window: the built model applies {describe(found)}, not {describe(wanted)}.")

    def _check_kernel(self) -> None:
        kernel = self.override_config.get("attn_implementation", "flash_attention_2")
        if kernel == "flash_attention_2" and not is_flash_attn_2_available():
            raise WindowError(
                "model.override_config.attn_implementation=flash_attention_2, but flash-attn is not usable here: "
                "install flash-attn on a machine with a GPU, or set +model.override_config.attn_implementation=sdpa "
                "(actor_rollout_ref.model... in RL)."
            )
        if kernel not in ("flash_attention_2", "sdpa", "eager"):
            raise WindowError(
                f"model.override_config.attn_implementation={kernel}: only flash_attention_2, sdpa and eager are "
                "known to honour the window."
            )


class _AssertWindows:
    """Mixin of an FSDP engine: the module that verl built must apply the window in every layer."""

    def _build_module(self) -> nn.Module:
        module = super()._build_module()  # type: ignore[misc]
        if isinstance(self.model_config, SwarrModelConfig):  # type: ignore[attr-defined]
            self.model_config.assert_windows(module)  # type: ignore[attr-defined]
        return module


# verl looks up (device, vendor) before its own device-wide entry (0.9.1, EngineRegistry.get_engine_cls).
_HERE = {
    "backend": ["fsdp", "fsdp2"],
    "device": os.environ.get("VERL_ENGINE_DEVICE") or get_device_name(),
    "vendor": os.environ.get("VERL_ENGINE_VENDOR") or get_vendor(),
}


@EngineRegistry.register(model_type="language_model", **_HERE)
class SwarrEngineWithLMHead(_AssertWindows, FSDPEngineWithLMHead):
    """verl's engine of actor, reference and SFT, plus the assertion."""


@EngineRegistry.register(model_type="value_model", **_HERE)
class SwarrEngineWithValueHead(_AssertWindows, FSDPEngineWithValueHead):
    """verl's engine of the critic, plus the assertion."""
