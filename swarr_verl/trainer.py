# SPDX-License-Identifier: Apache-2.0
"""verl's synchronous PPO trainer (`trainer.v1.trainer_mode`), with a stop and with the reward's metrics."""

from __future__ import annotations

from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer

from swarr_verl.reward import reward_metrics
from swarr_verl.verify import MismatchGuard


@register_trainer("swarr_sync")
class SwarrTrainerSync(PPOTrainerSync):
    """Stops at `swarr.max_probs_diff_mean` as soon as verl has measured it: before the step's weights are updated.

    And logs `swarr_verl.reward.reward_metrics` of the samples that were trained on; verl logs them in validation only.
    """

    # verl 0.9.1 branches on the literal mode "sync" (replay buffer, resume): to verl this is the sync trainer.
    trainer_mode = property(lambda self: "sync", lambda self, value: None)

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self._guard = MismatchGuard(config.swarr.max_probs_diff_mean)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        self._guard.check(metrics)
        return batch

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        sampled = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        data = tq.kv_batch_get(keys=sampled, partition_id=batch.partition_id, select_fields=["extra_fields"])
        fields = [getattr(value, "data", value) for value in data["extra_fields"]]
        metrics.update(reward_metrics([field.get("reward_extra_info", {}) for field in fields]))
