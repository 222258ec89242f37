# SPDX-License-Identifier: Apache-2.0
"""Checks of `+swarr=distill` on the driver: verl's on-policy distillation of a full-attention teacher into a window.

verl 0.9.1 builds the config of `distillation` in its GPU processes first (workers/engine_workers.py:596), reads the
teacher's checkpoint after the student is loaded, and compares the two models nowhere. Line numbers are verl's, 0.9.1.
"""

from __future__ import annotations

from hydra.errors import InstantiationException
from omegaconf import DictConfig
from transformers import AutoConfig
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import DistillationConfig, HFModelConfig

from swarr_verl.companion import check_companion
from swarr_verl.distill_loss import TO_GO
from swarr_verl.families import config_windows
from swarr_verl.preflight import PreflightError

LOSS = "distillation.distillation_loss"


def check(config: DictConfig, student: HFModelConfig) -> None:
    """Check a composed config of `verl.trainer.main_ppo` with `distillation.enabled`.

    Args:
        config: the whole of it.
        student: `actor_rollout_ref.model`, built.

    Raises:
        PreflightError: names the Hydra key and the remedy.
    """
    _check_temperature(config.actor_rollout_ref.rollout.temperature)
    _check_ignored(config)
    _check_logits(config)
    _check_gradient(config.distillation.distillation_loss)
    _warn_of_silence(config.distillation.distillation_loss, student)
    teachers = config.distillation.teacher_models
    names = [name for name in teachers if name != "teacher_model"] or ["teacher_model"]  # as verl chooses
    keys = [f"distillation.teacher_models.{name}" for name in names]
    for key, name in zip(keys, names, strict=True):
        _check_teacher(teachers[name], key)
    built = _build(config.distillation).teacher_models.values()
    for key, teacher in zip(keys, built, strict=True):
        longest = teacher.inference.prompt_length  # verl makes it the whole sequence's
        check_companion(teacher.model_path, f"{key}.model_path", longest, student)


def _check_temperature(temperature: float) -> None:
    """The student's log-probs are taken at it, the teacher's always at 1 (teacher_loop/teacher_manager.py:54).

    Measured on a CPU between equal models (nats a token, mean of the absolute): 1e-6 at 1, 0.95 at 0.5.
    """
    if temperature != 1:
        raise PreflightError(
            f"actor_rollout_ref.rollout.temperature={temperature}: verl compares the student's log-probs at this "
            "temperature with the teacher's at 1, so that equal models differ. Set it to 1."
        )


def _check_ignored(config: DictConfig) -> None:
    """Without task rewards verl puts 0 for the policy loss and all its terms (trainer/distillation/losses.py:210)."""
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    ignored = {
        "actor_rollout_ref.actor.use_kl_loss=true": actor.use_kl_loss,
        f"actor_rollout_ref.actor.entropy_coeff={actor.entropy_coeff}": actor.entropy_coeff != 0,
        "algorithm.use_kl_in_reward=true": algorithm.use_kl_in_reward,
        "algorithm.adv_estimator=gae": algorithm.adv_estimator == "gae",
    }
    for key, is_set in ignored.items():
        if is_set and not config.distillation.distillation_loss.use_task_rewards:
            raise PreflightError(
                f"{key} has no effect on a loss without task rewards: verl computes it and drops it. Leave the key at "
                f"the value of +swarr=distill, or set {LOSS}.use_task_rewards=true."
            )


def _check_logits(config: DictConfig) -> None:
    """A top-k loss needs the logits of every token; fused kernels make none (engine/fsdp/transformer_impl.py:1374)."""
    mode = config.distillation.distillation_loss.loss_mode
    if mode == "forward_kl_topk" and config.actor_rollout_ref.model.use_fused_kernels:
        raise PreflightError(
            f"{LOSS}.loss_mode={mode} finds no logits with actor_rollout_ref.model.use_fused_kernels=true. Set that "
            "to false, or choose loss_mode=k1."
        )


def _check_gradient(loss: DictConfig) -> None:
    """As verl refuses its k1: backpropagated, the teacher's log-probs would fall out of the gradient."""
    if loss.loss_mode == TO_GO and not loss.use_policy_gradient:
        raise PreflightError(
            f"{LOSS}.use_policy_gradient=false: {TO_GO} has no gradient that depends on the teacher. Set it to true, "
            "or choose loss_mode=forward_kl_topk."
        )


def _warn_of_silence(loss: DictConfig, student: HFModelConfig) -> None:
    """Measured (examples/mismatch): a student without SFT under the window ends its turn at once after six steps."""
    if loss.loss_mode != TO_GO:
        return
    own = AutoConfig.from_pretrained(student.local_hf_config_path)  # `hf_config` has swarr.window by now
    if not any(config_windows(own)):
        print(
            f"[swarr] actor_rollout_ref.model.path={student.path} was not converted to a window: by {LOSS}.loss_mode="
            f"{TO_GO} such a student learns to be silent. Convert it first: verl.trainer.sft_trainer +swarr=sft",
            flush=True,
        )


def _check_teacher(teacher: DictConfig, key: str) -> None:
    if not teacher.get("model_path"):
        raise PreflightError(
            f"{key}.model_path is not set: give the teacher, e.g. the checkpoint that the student was converted from."
        )
    if teacher.inference.name == "swarr_vllm":
        raise PreflightError(f"{key}.inference.name=swarr_vllm is for the student, with its window. Set it to vllm.")


def _build(distillation: DictConfig) -> DistillationConfig:
    """Let verl's own checks speak here: pool, lengths, loss."""
    try:
        return omega_conf_to_dataclass(distillation)
    except InstantiationException as error:
        raise PreflightError(f"distillation: verl refuses it: {error.__cause__ or error}") from error
