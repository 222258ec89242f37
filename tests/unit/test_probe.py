# SPDX-License-Identifier: Apache-2.0
"""`swarr.need`: what the probe reads of a step's responses, when, and what is refused before anything starts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from transformers import AutoModelForCausalLM
from trees import changed, tree

from swarr_verl import probe as module
from swarr_verl import trainer
from swarr_verl.convert import convert
from swarr_verl.need import context_need
from swarr_verl.preflight import check
from swarr_verl.probe import Probe, Reader, Reading
from swarr_verl.window import WindowSpec


@pytest.fixture
def texts():
    numbers = torch.Generator().manual_seed(0)
    return [(torch.randint(3, 60, (length,), generator=numbers), 5) for length in (6, 40, 70)]


def test_nats_and_tokens_of_each_response(checkpoint, texts):
    found = Reader(str(checkpoint), window=16, threads=1, device="cpu").read(texts)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    sides = context_need(model, texts, window=16, stride=2)
    assert found.tokens == [1, 35, 65] and found.seconds > 0
    assert found.nll == pytest.approx([whole.sum().item() for whole, _ in sides], abs=1e-3)
    need = [(truncated - whole).sum().item() for whole, truncated in sides]
    assert found.need == pytest.approx(need, abs=1e-3) and abs(need[-1]) > 0.1
    assert found.mean(found.need, [1, 2]) == pytest.approx(sum(need[1:]) / 100, abs=1e-5)


def test_a_window_that_no_text_outgrows_leaves_no_need(checkpoint, texts):
    assert Reader(str(checkpoint), window=80, threads=1, device="cpu").read(texts).need == [0, 0, 0]


READING = Reading(need=[1.0, 2.0, 7.0], nll=[5.0, 15.0, 40.0], tokens=[10, 20, 10], seconds=3.0)


class Remote:
    """What `ray.remote` makes of Reader, without a process."""

    def __init__(self, *arguments):
        self.arguments, self.seen = arguments, []
        self.__ray_ready__ = SimpleNamespace(remote=lambda: None)
        self.read = SimpleNamespace(remote=lambda texts: self.seen.append(texts) or READING)


@pytest.fixture
def local(monkeypatch):
    shares = []
    monkeypatch.setattr(module.ray, "get", lambda found, timeout=None: found)
    remote = lambda **share: shares.append(share) or (lambda kind: SimpleNamespace(remote=Remote))  # noqa: E731
    monkeypatch.setattr(module.ray, "remote", remote)
    return shares


KNOBS = SimpleNamespace(model="path", window=16, every=3, responses=2, threads=4, num_gpus=0)


def test_when_it_reads_and_what_the_tracker_gets(local, texts, capsys):
    probe = Probe(KNOBS)
    assert local == [{"num_cpus": 0, "num_gpus": 0}]
    assert probe._reader.arguments == ("path", 16, 4, "cpu")
    assert [step for step in range(1, 9) if probe.is_due(step)] == [1, 4, 7]
    assert probe.finish() == {}
    probe.start(4, texts, [True, False, True])
    found = probe.finish()
    assert (found["need/mean"], found["need/nll"], found["need/seconds"]) == (0.25, 1.5, 3.0)
    assert (found["need/right"], found["need/wrong"]) == (0.4, 0.1), "8 nats of 20 tokens, 2 of 20"
    assert 0 <= found["timing_s/need"] < 1
    said = capsys.readouterr().out
    assert (
        "[swarr] step 4: need +0.250 nats a token of 3 responses, read in 3.0 s, of which the step waited 0.0" in said
    )
    assert probe.finish() == {}, "once"
    probe.start(7, texts, [None, False, False])
    found = probe.finish()
    assert "need/right" not in found and found["need/wrong"] == pytest.approx(0.3) and found["need/mean"] == 0.25
    probe.start(10, [], [])
    assert probe.finish() == {} and len(probe._reader.seen) == 2


def test_a_gpu_is_asked_of_ray(local):
    probe = Probe(SimpleNamespace(**{**vars(KNOBS), "num_gpus": 1}))
    assert local == [{"num_cpus": 0, "num_gpus": 1}] and probe._reader.arguments[-1] == "cuda"


def test_a_share_that_ray_does_not_have(local, monkeypatch):
    def never(found, timeout=None):
        raise module.ray.exceptions.GetTimeoutError

    monkeypatch.setattr(module.ray, "get", never)
    with pytest.raises(ValueError, match=r"swarr\.need\.num_gpus=0: .*than the trainer takes"):
        Probe(KNOBS)


def test_texts_of_a_batch(monkeypatch):
    """Spread over what was sampled: no padding, and nothing that is empty."""
    rows = {"a": [1, 2], "b": [3], "c": [], "d": [4, 5], "pad": [9]}
    said = {"a": {"acc": np.float64(1)}, "b": {"acc": 0.0}, "c": {"acc": 1.0}}  # `d` has another reward

    def get(keys, partition_id, select_fields):
        assert partition_id == "train" and select_fields == ["prompts", "responses", "extra_fields"]
        prompts, responses = [torch.tensor([7, 8])] * len(keys), [torch.tensor(rows[key]).long() for key in keys]
        nested = (torch.nested.as_nested_tensor(one, layout=torch.jagged) for one in (prompts, responses))
        fields = [{"reward_extra_info": said[key]} if key in said else {} for key in keys]
        columns = dict(zip(select_fields, nested, strict=False))
        columns["extra_fields"] = NonTensorStack(*map(NonTensorData, fields))
        return TensorDict(columns, batch_size=len(keys))

    monkeypatch.setattr(trainer.tq, "kv_batch_get", get)
    batch = KVBatchMeta(list(rows), [{}, {}, {}, {}, {"is_padding": True}], "train")
    texts, right = trainer._texts(batch, 8)
    assert [(tokens.tolist(), prompt) for tokens, prompt in texts] == [
        ([7, 8, 1, 2], 2),
        ([7, 8, 3], 2),
        ([7, 8, 4, 5], 2),
    ]
    assert [grade is wanted for grade, wanted in zip(right, (True, False, None), strict=True)] == [True] * 3
    ((tokens, _),), right = trainer._texts(batch, 2)
    assert tokens.tolist() == [7, 8, 1, 2] and right == [True]


@pytest.fixture
def composed(checkpoint, data):
    paths = (f"actor_rollout_ref.model.path={checkpoint}", f"swarr.need.model={checkpoint}")
    rows = (f"data.train_files={data}/rl_train.parquet", f"data.val_files={data}/rl_val.parquet")
    return lambda *more, preset="[grpo,cpu_rl]": changed(
        tree("rl", f"+swarr={preset}", "swarr.window=8"), *paths, *rows, *more
    )


def test_a_good_config_passes_and_the_window_is_the_runs(composed):
    config = composed()
    check(config)
    assert config.swarr.need.window == 8
    check(composed("swarr.need.window=4", "swarr.need.num_gpus=1"))


BAD = [
    (["swarr.need.every=0"], r"swarr\.need\.every=0: give a whole number, 1 or more"),
    (["swarr.need.responses=true"], r"swarr\.need\.responses=True: give a whole number"),
    (["swarr.need.threads=0.5"], r"swarr\.need\.threads=0\.5: give a whole number"),
    (["swarr.need.window=0"], r"swarr\.need\.window=0: give a whole number"),
    (["swarr.need.num_gpus=-1"], r"swarr\.need\.num_gpus=-1: give a whole number, 0 or more"),
    (["swarr.need.model=/nowhere"], r"swarr\.need\.model=/nowhere cannot be read: give"),
    (["trainer.val_only=true"], r"swarr\.need\.model is read in training only.*set it to null"),
    (["trainer.use_v1=false", "swarr.max_probs_diff_mean=null"], r"trainer\.use_v1=false.*swarr\.need\.model=null"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[bad[0][0] for bad in BAD])
def test_bad_config(composed, overrides, message):
    with pytest.raises(ValueError, match=message):
        check(composed(*overrides))


def test_a_probe_with_a_window_sees_too_little(composed, checkpoint, tmp_path):
    convert(str(checkpoint), tmp_path / "windowed", WindowSpec(8))
    with pytest.raises(ValueError, match=r"swarr\.need\.model=.* it has a window itself, 8"):
        check(composed(f"swarr.need.model={tmp_path / 'windowed'}"))
