# SPDX-License-Identifier: Apache-2.0
"""The platform "cpu" for verl's PlatformRegistry (verl/plugin/platform/platform_base.py, verl 0.9.1).

Importing this module registers it; `swarr_verl.platforms.cpu` does so where it is the selected platform.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _nothing(*args: Any, **kwargs: Any) -> None:
    """A function of torch.cuda that has no meaning here."""


def _memory(*args: Any) -> int:
    return psutil.Process().memory_info().rss


def _peak_memory(*args: Any) -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(peak, _memory())  # Linux counts the peak more roughly than what is in use


def _free_and_total_memory(*args: Any) -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _device_module() -> ModuleType:
    """`torch.cpu`, and what verl 0.9.1 calls besides; memory is that of the process."""
    module = ModuleType("swarr_verl_torch_cpu")
    vars(module).update(
        vars(torch.cpu),
        empty_cache=_nothing,
        ipc_collect=_nothing,
        set_per_process_memory_fraction=_nothing,
        reset_peak_memory_stats=_nothing,
        reset_accumulated_memory_stats=_nothing,
        memory_allocated=_memory,
        memory_reserved=_memory,
        max_memory_allocated=_peak_memory,
        max_memory_reserved=_peak_memory,
        mem_get_info=_free_and_total_memory,
        get_device_name=lambda *args: "cpu",
        get_device_properties=lambda *args: SimpleNamespace(name="cpu", total_memory=psutil.virtual_memory().total),
        get_rng_state=lambda *args: torch.get_rng_state(),
        set_rng_state=lambda state, *args: torch.set_rng_state(state),
    )
    return module


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """One CPU device per process, gloo between processes."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        """Always."""
        return True

    def current_device(self) -> torch.device:  # type: ignore[override]
        """Return a device, since verl passes it to `Tensor.to`, where an index means an accelerator."""
        return torch.device("cpu")

    def device_count(self) -> int:
        """One."""
        return 1

    def set_device(self, device_index: int) -> None:
        """Nothing to select."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Nothing to wait for."""

    def manual_seed(self, seed: int) -> None:
        """Seed torch."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed torch."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """No allocator to configure."""

    def empty_cache(self) -> None:
        """No cache to empty."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        """None: not applicable."""
        return None, None

    def communication_backend_name(self) -> str:
        """Return "gloo"."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """Ray's and verl's bookkeeping of device indices needs one."""
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """No profiler."""
        yield

    def profiler_start(self) -> None:
        """No profiler."""

    def profiler_stop(self) -> None:
        """No profiler."""

    def ray_resource_name(self) -> str:
        """Placement groups count "GPU"s; `ray_init.num_gpus` says how many the machine has."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """The variable of the "GPU" resource."""
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        """No: weights reach the rollout through POSIX shared memory."""
        return False

    def cudart(self) -> None:
        """None: not applicable."""
