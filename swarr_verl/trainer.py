# SPDX-License-Identifier: Apache-2.0
"""verl's synchronous PPO trainer (`trainer.v1.trainer_mode`): stops, the reward's metrics, checked evaluations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.workers.utils.padding import response_from_nested

from swarr_verl.mismatch import spread
from swarr_verl.need import Text
from swarr_verl.probe import Probe
from swarr_verl.reward import reward_metrics
from swarr_verl.verify import SCORED_TOKENS, MismatchGuard, check_surprise

_SCORED = 128  # responses of a validation, at least one for each process of the trainer
_POLL = 0.25  # seconds between two looks for finished rollouts; verl's 2 s cost a short step a second or more


class IncompleteValidation(RuntimeError):
    """Rollouts of a validation failed."""


def _tensors(batch: KVBatchMeta) -> KVBatchMeta:
    """The batch, of whose columns a worker gets the tensors only.

    verl 0.9.1 sends all that rollouts left in the queue, the data set's own columns too (prompt as text, ground truth):
    a Python object a sample and column, which a worker splits, moves to its device, and never reads.
    """
    columns = tq.get_client().kv_retrieve_meta(keys=batch.keys, partition_id=batch.partition_id).field_schema
    batch.fields = [name for name, column in columns.items() if not column["is_non_tensor"]]
    return batch


def _sampled(batch: KVBatchMeta) -> list[str]:
    """Keys of what was sampled, without verl's padding."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


def _infos(fields: Iterable[Any]) -> list[dict[str, Any]]:
    """What the reward said of each sample, from a batch's `extra_fields`."""
    return [getattr(field, "data", field).get("reward_extra_info", {}) for field in fields]


def _texts(batch: KVBatchMeta, count: int) -> tuple[list[Text], list[bool | None]]:
    """Prompt and response of at most `count` samples, spread over the batch; which are right, None if not graded."""
    sampled = _sampled(batch)
    keys = [sampled[place] for place in spread(len(sampled), count)]
    columns = ["prompts", "responses", "extra_fields"]
    data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=columns)
    texts, right = list[Text](), list[bool | None]()
    infos = _infos(data["extra_fields"])
    for prompt, response, info in zip(data["prompts"].unbind(), data["responses"].unbind(), infos, strict=True):
        if len(response):
            texts.append((torch.cat([prompt, response]), len(prompt)))
            right.append(bool(info["acc"] > 0) if "acc" in info else None)
    return texts, right


@register_trainer("swarr_sync")
class SwarrTrainerSync(PPOTrainerSync):
    """Stops at `swarr.max_probs_diff_mean` as soon as verl has measured it: before the step's weights are updated."""

    # verl 0.9.1 branches on the literal mode "sync" (replay buffer, resume): to verl this is the sync trainer.
    trainer_mode = property(lambda self: "sync", lambda self, value: None)

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self._guard = MismatchGuard(config.swarr.max_probs_diff_mean)
        self._probe = Probe(config.swarr.need) if config.swarr.need.model else None
        self.replay_buffer.poll_interval = _POLL

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        if self._probe and self._probe.is_due(self.global_steps):
            self._probe.start(self.global_steps, *_texts(batch, self._probe.responses))
        batch = super()._compute_old_log_prob(_tensors(batch), metrics)
        self._guard.check(metrics)
        return batch

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._compute_ref_log_prob(_tensors(batch), metrics)

    def _compute_values(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._compute_values(_tensors(batch), metrics)

    def _update_critic(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._update_critic(_tensors(batch), metrics)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._update_actor(_tensors(batch), metrics)

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> None:
        """Log `swarr_verl.reward.reward_metrics` of what was trained on; verl logs them in validation only."""
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        if self._probe:
            metrics.update(self._probe.finish())
        data = tq.kv_batch_get(keys=_sampled(batch), partition_id=batch.partition_id, select_fields=["extra_fields"])
        metrics.update(reward_metrics(_infos(data["extra_fields"])))

    def _validate(self) -> dict[str, float]:
        """In a validation-only run also ask the trainer's model how surprising the responses are (`check_surprise`)."""
        if not self.config.trainer.val_only or self.config.swarr.max_excess_nll is None:
            return super()._validate()
        sample = self.replay_buffer.sample
        scores: list[tuple[float, int]] = []

        def sample_and_score(**kwargs: Any) -> tuple[KVBatchMeta, dict]:
            batch, metrics = sample(**kwargs)
            scores.extend(self._excess_nll(batch))
            return batch, metrics

        self.replay_buffer.sample = sample_and_score  # verl forgets the tokens before it calls us
        try:
            found = super()._validate()
        finally:
            self.replay_buffer.sample = sample
        if not scores:  # fewer responses than processes
            return found
        sums, tokens = zip(*scores, strict=True)
        excess = check_surprise(sums, tokens, self.config.swarr.max_excess_nll)
        print(f"[swarr] {len(scores)} responses: {excess:+.3f} nats a token over the entropy", flush=True)
        return found | {"val-aux/excess_nll": excess}

    def _excess_nll(self, batch: KVBatchMeta) -> list[tuple[float, int]]:
        """Return negative log-likelihood less entropy (nats) of the first tokens of some responses, and how many."""
        world = self.actor_rollout_wg.world_size
        count = min(max(_SCORED, world), len(batch.keys)) // world * world
        if count == 0:
            return []
        places = spread(len(batch.keys), count)
        val = self.config.actor_rollout_ref.rollout.val_kwargs
        sampled = val.do_sample and val.temperature > 0  # greedy: of the logits as they are
        temperature = val.temperature if sampled else 1.0
        part = KVBatchMeta(
            partition_id=batch.partition_id,
            keys=[batch.keys[place] for place in places],
            tags=[batch.tags[place] for place in places],
            extra_info={"temperature": temperature, "calculate_entropy": True, "compute_loss": False},
        )
        self.checkpoint_manager.sleep_replicas()  # their memory, as verl does for a reward model
        self.actor_rollout_wg.compute_log_prob(_tensors(part))
        self.checkpoint_manager.update_weights()
        fields = ["log_probs", "entropy", "response_mask"]
        data = tq.kv_batch_get(keys=part.keys, partition_id=part.partition_id, select_fields=fields)
        mask = data["response_mask"]
        logp, entropy = (response_from_nested(data[name], mask).unbind() for name in fields[:2])
        first = [-(p + h)[m.bool()][:SCORED_TOKENS] for p, h, m in zip(logp, entropy, mask.unbind(), strict=True)]
        return [(float(excess.sum()), len(excess)) for excess in first]

    def _val_metrics_update(
        self, data_sources: list, sample_uids: list, reward_extra_infos_dict: dict, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """In a validation-only run print mean@k; `report` makes the rest, from the dump.

        verl 0.9.1 estimates best@n, worst@n and maj@n of every value by a thousand resamples a problem, in Python:
        half a second a problem of 8 samples. A sample that counts as a problem leaves nothing to resample.

        Raises:
            IncompleteValidation: samples are missing. verl goes on, with those that are there; so it does in training.
        """
        if not self.config.trainer.val_only:
            return super()._val_metrics_update(data_sources, sample_uids, reward_extra_infos_dict, *args, **kwargs)
        expected = sum(kwargs.pop("expected_acc_counts").values())
        if len(sample_uids) < expected:
            raise IncompleteValidation(
                f"{len(sample_uids)} of {expected} samples came back, the other rollouts failed: no result. The log "
                "has their error. Did the engine run out of memory? Lower actor_rollout_ref.rollout.max_num_seqs."
            )
        apart = [f"{uid}/{index}" for index, uid in enumerate(sample_uids)]
        found = super()._val_metrics_update(data_sources, apart, reward_extra_infos_dict, *args, **kwargs)
        k = self.config.actor_rollout_ref.rollout.val_kwargs.n
        return {name.replace("/mean@1", f"/mean@{k}"): value for name, value in found.items()}
