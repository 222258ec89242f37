# SPDX-License-Identifier: Apache-2.0
"""+swarr=distill: what would fail on the GPUs, or train on something else without a word, is refused on the driver."""

import json
import shutil
from types import SimpleNamespace

import pytest
import tiny
import torch
from tensordict import TensorDict
from transformers import AutoConfig
from trees import changed, tree

from swarr_verl.families import apply_window
from swarr_verl.preflight import check
from swarr_verl.window import WindowSpec

TEACHER = "distillation.teacher_models.teacher_model"
LOSS = "distillation.distillation_loss"
ACTOR = "actor_rollout_ref.actor"


@pytest.fixture
def composed(checkpoint, data):
    """The tree of some presets, changed; the teacher is the checkpoint that the student is converted from."""
    paths = (f"actor_rollout_ref.model.path={checkpoint}", f"{TEACHER}.model_path={checkpoint}")
    rows = (f"data.train_files={data}/rl_train.parquet", f"data.val_files={data}/rl_val.parquet")
    return lambda presets, *more: changed(tree("rl", f"+swarr={presets}", "swarr.window=8"), *paths, *rows, *more)


@pytest.fixture
def good(composed):
    return lambda *more: composed("[distill,cpu_distill]", *more)


def test_good_config_passes(good):
    check(good())


def gradient(*overrides: str) -> torch.Tensor:
    """Of verl's loss by a student's logits, over responses of a token that come as often as the student says them."""
    from verl.trainer.distillation.losses import distillation_loss
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.tensordict_utils import assign_non_tensor

    config = changed(tree("rl", "+swarr=distill"), f"{TEACHER}.model_path=any", *overrides)
    logits = STUDENT.log().requires_grad_()
    tokens = torch.tensor([0] * 4 + [1] * 2 + [2, 3])
    said, taught = logits.log_softmax(-1)[tokens], TAUGHT.log()[tokens]
    ones = torch.ones(8, 1, dtype=torch.int64)
    data = TensorDict(
        prompts=ones,
        responses=tokens[:, None],
        attention_mask=torch.ones(8, 2, dtype=torch.int64),
        response_mask=ones,
        old_log_probs=said[:, None].detach(),
        teacher_logprobs=packed(taught)[:, None],
    )
    assign_non_tensor(data, dp_size=1, batch_num_tokens=8, global_batch_size=1)
    actor = SimpleNamespace(loss_agg_mode="token-mean", loss_scale_factor=None, global_batch_info={})
    loss, _ = distillation_loss(actor, omega_conf_to_dataclass(config.distillation), {"log_probs": packed(said)}, data)
    loss.backward()
    return logits.grad


def packed(values: torch.Tensor) -> torch.Tensor:
    """As verl packs rows of a prompt and a response of one token each: a value stands before its token."""
    return torch.stack([values, torch.zeros_like(values)], dim=1).flatten()


STUDENT, TAUGHT = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8]), torch.tensor([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("overrides", "divergence", "factor"),
    [
        ([], "reverse", 8 / 7),  # of eight responses, each is compared with the other seven
        ([f"{LOSS}.loss_mode=k1"], "reverse", 1),
        ([f"{LOSS}.loss_mode=k2", f"{LOSS}.use_policy_gradient=false"], "reverse", 1),
        ([f"{LOSS}.loss_mode=k3", f"{LOSS}.use_policy_gradient=false"], "forward", 1),
    ],
)
def test_the_gradient_is_that_of_the_divergence_that_the_preset_names(overrides, divergence, factor):
    logits = STUDENT.log().requires_grad_()
    student, teacher = logits.log_softmax(-1), TAUGHT.log()
    p, q = (student, teacher) if divergence == "reverse" else (teacher, student)
    (p.exp() * (p - q)).sum().backward()
    assert torch.allclose(gradient(*overrides), factor * logits.grad, atol=1e-6)


def test_no_task_reward_and_a_backend_without_the_window():
    config = tree("rl", "+swarr=distill")
    assert config.distillation.enabled and not config.distillation.distillation_loss.use_task_rewards
    assert config.distillation.teacher_models.teacher_model.inference.name == "vllm"
    assert config.actor_rollout_ref.rollout.name == "swarr_vllm"


BAD = [
    ([f"{TEACHER}.model_path=null"], r"teacher_model\.model_path is not set: give the teacher"),
    ([f"{TEACHER}.model_path=/nowhere"], r"teacher_model\.model_path=/nowhere cannot be read: give"),
    ([f"{TEACHER}.inference.name=swarr_vllm"], r"teacher_model\.inference\.name=swarr_vllm.*Set it to vllm"),
    (["actor_rollout_ref.rollout.temperature=0.7"], r"rollout\.temperature=0\.7.*Set it to 1"),
    ([f"{ACTOR}.use_kl_loss=true"], r"actor\.use_kl_loss=true has no effect.*use_task_rewards=true"),
    ([f"{ACTOR}.entropy_coeff=0.01"], r"actor\.entropy_coeff=0\.01 has no effect.*use_task_rewards=true"),
    (["algorithm.use_kl_in_reward=true"], r"algorithm\.use_kl_in_reward=true has no effect"),
    (["algorithm.adv_estimator=gae"], r"algorithm\.adv_estimator=gae has no effect"),
    (
        [
            f"{LOSS}.loss_mode=forward_kl_topk",
            "actor_rollout_ref.model.use_fused_kernels=true",
            f"{ACTOR}.strategy=fsdp",
        ],
        r"loss_mode=forward_kl_topk finds no logits.*use_fused_kernels=true.*loss_mode=k1",
    ),
    # verl's own checks, of which the first process with a GPU would hear
    ([f"{TEACHER}.inference.tensor_model_parallel_size=2"], r"distillation: verl refuses it: .*must divide"),
    (
        [f"{LOSS}.use_policy_gradient=false"],
        r"use_policy_gradient=false: swarr_k1_to_go has no gradient.*Set it to true",
    ),
    (
        [f"{LOSS}.loss_mode=k1", f"{LOSS}.use_policy_gradient=false"],
        r"distillation: verl refuses it: .*k1 loss is incorrect",
    ),
    ([f"{TEACHER}.inference.max_model_len=100"], r"distillation: verl refuses it: .*max_model_len=100"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[bad[0][0] for bad in BAD])
def test_bad_config(good, overrides, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check(good(*overrides))


def test_with_task_rewards_the_other_terms_count(good):
    check(good(f"{LOSS}.use_task_rewards=true", f"{ACTOR}.entropy_coeff=0.01"))


def test_under_another_preset_verl_would_give_the_teacher_the_students_backend(composed):
    with pytest.raises(ValueError, match=r"teacher_model\.inference\.name=swarr_vllm"):
        check(composed("[grpo,cpu_rl]", "distillation.enabled=true"))


def test_a_student_without_a_window_is_warned_of(good, checkpoint, tmp_path, capsys):
    converted = apply_window(AutoConfig.from_pretrained(checkpoint), WindowSpec(8))
    shutil.copytree(checkpoint, tmp_path / "converted")
    converted.save_pretrained(tmp_path / "converted")
    for model, loss, warned in [
        (checkpoint, "swarr_k1_to_go", True),
        (checkpoint, "k1", False),
        (tmp_path / "converted", "swarr_k1_to_go", False),
    ]:
        check(good(f"actor_rollout_ref.model.path={model}", f"{LOSS}.loss_mode={loss}"))
        assert ("Convert it first" in capsys.readouterr().out) == warned


@pytest.fixture
def copied(checkpoint, tmp_path):
    """A copy of the checkpoint, to be changed."""
    return shutil.copytree(checkpoint, tmp_path / "teacher")


def test_a_teacher_with_a_window(good, copied):
    config = json.loads((copied / "config.json").read_text())
    config |= dict(
        use_sliding_window=True, sliding_window=64, max_window_layers=0, layer_types=["sliding_attention"] * 3
    )
    (copied / "config.json").write_text(json.dumps(config))
    longest = ("data.max_prompt_length=32", "data.max_response_length=33")
    with pytest.raises(
        ValueError, match=r"teacher_model\.model_path=.*has a window itself, 64 .*before the conversion"
    ):
        check(good(f"{TEACHER}.model_path={copied}", *longest))
    check(good(f"{TEACHER}.model_path={copied}", longest[0], "data.max_response_length=32"))  # no sequence outgrows it


def test_a_teacher_with_another_tokenizer(good, copied):
    tok = tiny.tokenizer()
    tok.add_tokens(["<think>"])
    tok.save_pretrained(copied)
    check(good(f"{TEACHER}.model_path={copied}"))  # it may know more tokens
    raw = json.loads((copied / "tokenizer.json").read_text())
    vocab = raw["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (copied / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(
        ValueError, match=r"teacher_model\.model_path: 2 of the student's \d+ tokens.*Choose a checkpoint"
    ):
        check(good(f"{TEACHER}.model_path={copied}"))


def test_a_student_that_knows_more_than_the_teacher(good, copied):
    tok = tiny.tokenizer()
    tok.add_tokens(["<think>"])
    tok.save_pretrained(copied)
    with pytest.raises(ValueError, match=r"1 of the student's .*'<think>': \d+ and None"):
        check(good(f"actor_rollout_ref.model.path={copied}"))
