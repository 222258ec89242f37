# SPDX-License-Identifier: Apache-2.0
"""verl's synchronous PPO trainer with the stop of `swarr.max_probs_diff_mean` (`trainer.v1.trainer_mode`)."""

from __future__ import annotations

from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from swarr_verl.verify import MismatchGuard


@register_trainer("swarr_sync")
class SwarrTrainerSync(PPOTrainerSync):
    """Checks the mismatch as soon as verl has measured it: before the step's weights are updated."""

    # verl 0.9.1 branches on the literal mode "sync" (replay buffer, resume): to verl this is the sync trainer.
    trainer_mode = property(lambda self: "sync", lambda self, value: None)

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self._guard = MismatchGuard(config.swarr.max_probs_diff_mean)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        self._guard.check(metrics)
        return batch
