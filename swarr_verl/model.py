# SPDX-License-Identifier: Apache-2.0
"""The SWA model wrapper: verl's HFModelConfig with the window applied to `hf_config`, and asserted on what is built.

Selected by `_target_` (`actor_rollout_ref.model`, `critic.model`; `model` in SFT). Every verl process builds it,
and every engine (actor, reference, critic, SFT, rollout server) reads `hf_config` from it, so all share one window.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from torch import nn
from transformers import AutoModelForTokenClassification
from verl.utils.device import get_device_name, get_vendor
from verl.workers.config import HFModelConfig
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead

from swarr_verl import attention, flops  # noqa: F401  (flops counts the window in verl's FLOPs)
from swarr_verl.families import apply_window, module_windows
from swarr_verl.patching import Patch, applied
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
        """Early, where one is named; the choice is made where a model is built, as other processes may lack a GPU."""
        if kernel := self.override_config.get("attn_implementation"):
            attention.check(kernel)


def _kernel_of_the_config(original: Callable) -> Callable:
    def load_valuehead_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        if model_config._attn_implementation == "flash_attention_2":
            return original(local_path, torch_dtype, model_config, trust_remote_code)
        return AutoModelForTokenClassification.from_pretrained(
            local_path, dtype=torch_dtype, config=model_config, trust_remote_code=trust_remote_code
        )

    return load_valuehead_model


# verl builds a critic with flash_attention_2, whatever its config says (utils/model.py:649).
CRITIC_KERNEL = Patch(
    name="critic_kernel",
    requirement="verl>=0.9.1,<0.10",
    target="verl.utils.model:load_valuehead_model",
    sha256="d7528f4ff909c7c31e6485e97756fd076f2cddd7004a0feab8ff89be2a14fa17",
    wrap=_kernel_of_the_config,
)


class _AssertWindows:
    """Mixin of an FSDP engine: chooses the kernel, asserts it and the window on what verl built, tells it the rows."""

    _patches: tuple[Patch, ...] = ()

    def _build_module(self) -> nn.Module:
        config = self.model_config  # type: ignore[attr-defined]
        if not isinstance(config, SwarrModelConfig):
            return super()._build_module()  # type: ignore[misc]
        asked = config.override_config.get("attn_implementation")
        kernel = attention.choose(asked, self.ulysses_sequence_parallel_size)  # type: ignore[attr-defined]
        attention.activate(kernel)
        config.hf_config._attn_implementation = kernel
        with applied(*self._patches):
            module = super()._build_module()  # type: ignore[misc]
        config.assert_windows(module)
        if module.config._attn_implementation != kernel:
            raise WindowError(f"{attention.KEY}: {kernel}, but verl built {module.config._attn_implementation}.")
        if self.rank == 0:  # type: ignore[attr-defined]
            attention.announce(kernel)
        return module

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict, dict]:
        """Say where the packed rows end, once; transformers (5.9.0) else asks the GPU for it in every layer, and waits.

        Not where each GPU has a piece of the rows (Ulysses), nor where verl has filled them up.
        """
        inputs, output_args = super().prepare_model_inputs(micro_batch)  # type: ignore[misc]
        kernel = self.model_config.hf_config._attn_implementation  # type: ignore[attr-defined]
        packed = "pad_size" in output_args and not output_args["pad_size"]
        if packed and kernel in attention.PACKED and self.ulysses_sequence_parallel_size == 1:  # type: ignore[attr-defined]
            inputs |= attention.row_bounds(micro_batch["input_ids"].offsets())
        return inputs, output_args


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

    _patches = (CRITIC_KERNEL,)
