# SPDX-License-Identifier: Apache-2.0
"""What a validation-only run prints of its samples; what the workers get of a batch."""

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from transfer_queue import BatchMeta, KVBatchMeta
from transfer_queue.metadata import extract_field_schema

from swarr_verl import trainer as module
from swarr_verl.trainer import IncompleteValidation, SwarrTrainerSync


def metrics(val_only: bool, problems: int, k: int, failed: int = 0) -> dict[str, float]:
    trainer = object.__new__(SwarrTrainerSync)
    trainer.config = OmegaConf.create(
        {"trainer": {"val_only": val_only}, "actor_rollout_ref": {"rollout": {"val_kwargs": {"n": k}}}}
    )
    wanted = [f"u{i}" for i in range(problems) for _ in range(k)]
    uids = wanted[failed:]
    infos = {"reward": [float(i % 3 == 0) for i in range(len(uids))], "pred": ["7"] * len(uids)}
    infos["acc"] = infos["reward"]
    counts = {("set", uid): k for uid in wanted}
    return trainer._val_metrics_update(["set"] * len(uids), uids, infos, [2] * len(uids), expected_acc_counts=counts)


def test_the_mean_is_verls_own():
    ours, verls = metrics(True, 4, 3), metrics(False, 4, 3)
    assert ours["val-core/set/acc/mean@3"] == pytest.approx(1 / 3)
    for name, value in ours.items():
        assert value == pytest.approx(verls[name]), name


def test_nothing_is_resampled():
    resampled = ("best@", "worst@", "maj@")
    assert any(kind in name for name in metrics(False, 4, 3) for kind in resampled)
    assert not any(kind in name for name in metrics(True, 4, 3) for kind in resampled)


def test_failed_rollouts_make_no_result():
    assert metrics(False, 4, 3, failed=2)  # verl's answer
    with pytest.raises(IncompleteValidation, match="10 of 12 samples"):
        metrics(True, 4, 3, failed=2)


STEPS = ["_compute_old_log_prob", "_compute_ref_log_prob", "_compute_values", "_update_critic", "_update_actor"]


@pytest.mark.parametrize("step", STEPS)
def test_workers_get_tensors_only(step, monkeypatch):
    """By the schema that the queue itself makes of a rollout's columns."""
    rows = torch.nested.as_nested_tensor([torch.arange(3), torch.arange(5)], layout=torch.jagged)
    columns = {"input_ids": rows, "rm_scores": torch.zeros(2), "raw_prompt": NonTensorStack("one", "two")}
    schema = extract_field_schema(TensorDict(columns, batch_size=2))

    class Queue:
        def kv_retrieve_meta(self, keys, partition_id):
            assert (keys, partition_id) == (["a", "b"], "train")
            return BatchMeta([0, 1], [partition_id] * 2, schema)

    monkeypatch.setattr(module.tq, "get_client", Queue)
    seen = []
    monkeypatch.setattr(module.PPOTrainerSync, step, lambda self, batch, metrics: seen.append(batch.fields) or batch)
    trainer = object.__new__(SwarrTrainerSync)
    trainer._guard, trainer._probe = module.MismatchGuard(None), None
    getattr(trainer, step)(KVBatchMeta(["a", "b"], [{}, {}], "train"), {})
    assert sorted(seen[0]) == ["input_ids", "rm_scores"]
