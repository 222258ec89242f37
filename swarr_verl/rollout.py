# SPDX-License-Identifier: Apache-2.0
"""The rollout backend `swarr_vllm`: verl's vLLM server with the trainer's window, checked on the live engine.

Built on the hook methods that verl 0.9.1 offers to subclasses (`workers/rollout/vllm_rollout/vllm_async_server.py`).
Imports vLLM: loaded lazily by verl's registries (see plugin.py).
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import ray
from omegaconf import DictConfig
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

from swarr_verl.families import module_windows, window_keys
from swarr_verl.model import SwarrModelConfig
from swarr_verl.rollout_engine import RolloutEngine
from swarr_verl.verify import EngineWindow, compare
from swarr_verl.weight_socket import name_for_vllm
from swarr_verl.window import WindowError

NAME = "swarr_vllm"


class SwarrVLLMServer(vLLMHttpServer):
    """verl's vLLM server whose engine gets the window of the model wrapper through `hf_overrides`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name_for_vllm()

    def _init_model_config(self, model_config: DictConfig | SwarrModelConfig) -> SwarrModelConfig:
        model_config = omega_conf_to_dataclass(model_config)
        if not isinstance(model_config, SwarrModelConfig):
            raise WindowError(
                f"rollout.name={NAME} needs actor_rollout_ref.model._target_=swarr_verl.model.SwarrModelConfig "
                f"(found {type(model_config).__name__}): select the plugin's config with +swarr=rl."
            )
        return model_config

    def _preprocess_engine_kwargs(self, engine_kwargs: dict[str, Any]) -> None:
        super()._preprocess_engine_kwargs(engine_kwargs)
        # verl lets engine_kwargs replace its own hf_overrides: take them out here, merge them below.
        self._user_hf_overrides = dict(engine_kwargs.pop("hf_overrides", None) or {})

    def _apply_quantization(self) -> tuple[str | None, dict[str, Any]]:
        quantization, hf_overrides = super()._apply_quantization()
        return quantization, {**hf_overrides, **self._user_hf_overrides, **window_keys(self.model_config.hf_config)}

    def _get_worker_extension_cls(self) -> str:
        return "swarr_verl.rollout_worker.SwarrWorkerExtension"

    async def run_server(self, args: Namespace) -> None:
        """Start the engine as verl does; `args` are vLLM's own."""
        await super().run_server(args)
        self.engine: Any = RolloutEngine(self.engine)

    async def engine_windows(self) -> list[dict[int, EngineWindow]]:
        """What each worker's attention layers and KV-cache groups use; one dict a worker, keyed by layer index."""
        answers = await self.engine.collective_rpc("swarr_windows")
        return [{layer: EngineWindow(*found) for layer, found in answer} for answer in answers]


def _trainer_windows(worker: Any) -> list[int | None] | None:
    """Runs inside a verl worker: the windows of its actor's modules; None where it holds no actor."""
    inner = getattr(worker, "worker_dict", {"": worker}).values()  # colocated roles share one process
    actors = [w.actor for w in inner if getattr(w, "actor", None) is not None]
    return module_windows(actors[0].engine.module) if actors else None


class SwarrVLLMReplica(vLLMReplica):
    """Launches SwarrVLLMServer and compares both sides before the first rollout."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(SwarrVLLMServer)

    async def launch_servers(self) -> None:
        """Launch as verl does, then ask both sides.

        Raises:
            WindowMismatch: a layer differs.
        """
        await super().launch_servers()
        trainer = await self.workers[0].__ray_call__.remote(_trainer_windows)
        if trainer is None:  # a standalone replica has no trainer beside it: hold it to what was asked for
            config = omega_conf_to_dataclass(self.model_config)
            trainer = config.window_spec.windows(config.hf_config.num_hidden_layers)
        answers = await self.servers[0].engine_windows.remote()
        lines = [compare(trainer, answer) for answer in answers]
        if self.replica_rank == 0:
            print(f"{lines[0]}; vLLM workers asked: {len(answers)}", flush=True)

    def _get_server_name_prefix(self) -> str:
        return f"{NAME}_"  # verl's adapter looks the server up under rollout.name
