# SPDX-License-Identifier: Apache-2.0
"""verl's synchronous PPO trainer (`trainer.v1.trainer_mode`), with a stop and the reward's metrics."""

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
    """Stops at `swarr.max_probs_diff_mean` as soon as verl has measured it: before the step's weights are updated."""

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
        """Log `swarr_verl.reward.reward_metrics` of what was trained on; verl logs them in validation only."""
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        sampled = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        data = tq.kv_batch_get(keys=sampled, partition_id=batch.partition_id, select_fields=["extra_fields"])
        fields = [getattr(value, "data", value) for value in data["extra_fields"]]
        metrics.update(reward_metrics([field.get("reward_extra_info", {}) for field in fields]))

    def _val_metrics_update(
        self, data_sources: list, sample_uids: list, reward_extra_infos_dict: dict, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """In a validation-only run print mean@k; `report` makes the rest, from the dump.

        verl 0.9.1 estimates best@n, worst@n and maj@n of every value by a thousand resamples a problem, in Python:
        half a second a problem of 8 samples. A sample that counts as a problem leaves nothing to resample.
        """
        if not self.config.trainer.val_only:
            return super()._val_metrics_update(data_sources, sample_uids, reward_extra_infos_dict, *args, **kwargs)
        kwargs.pop("expected_acc_counts", None)
        apart = [f"{uid}/{index}" for index, uid in enumerate(sample_uids)]
        found = super()._val_metrics_update(data_sources, apart, reward_extra_infos_dict, *args, **kwargs)
        k = self.config.actor_rollout_ref.rollout.val_kwargs.n
        return {name.replace("/mean@1", f"/mean@{k}"): value for name, value in found.items()}
