# SPDX-License-Identifier: Apache-2.0
"""Entry point of group `verl.plugins`: imported (not called) by `import verl` in every verl process.

verl logs a failed plugin at DEBUG only and goes on. So the config group comes first, with nothing but Hydra
imported, and it selects names (swarr_vllm, swarr_sync, ...) that do not resolve without the rest of this module.
Registration is lazy: nothing here imports vLLM.
"""

import sys

from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from swarr_verl.search_path import SwarrSearchPath

Plugins.instance().register(SwarrSearchPath)

from swarr_verl import preflight  # noqa: E402

preflight.check_command_line(sys.argv[1:])

from swarr_verl.platforms import cpu  # noqa: E402

cpu.activate()

from verl.workers.rollout.base import _ROLLOUT_REGISTRY  # noqa: E402
from verl.workers.rollout.replica import RolloutReplicaRegistry  # noqa: E402

from swarr_verl import distill_loss, reward  # noqa: E402, F401  (register swarr_k1_to_go and swarr_math)


def _load_replica() -> type:
    from swarr_verl.rollout import SwarrVLLMReplica

    return SwarrVLLMReplica


_ROLLOUT_REGISTRY[("swarr_vllm", "async")] = "swarr_verl.weight_socket.SwarrServerAdapter"
RolloutReplicaRegistry.register("swarr_vllm", _load_replica)


def _trainer_mode() -> str:
    """Name of our trainer. verl has no lazy door for trainers and its module imports vLLM, so the class registers
    itself when verl reads the key `trainer.v1.trainer_mode: ${swarr_trainer:}` to look the trainer up."""
    import swarr_verl.trainer  # noqa: F401

    return "swarr_sync"


OmegaConf.register_new_resolver("swarr_trainer", _trainer_mode, replace=True)
