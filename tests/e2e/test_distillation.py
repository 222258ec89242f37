# SPDX-License-Identifier: Apache-2.0
"""+swarr=distill through verl and real vLLM: a student under a window learns from full attention.

Teacher and student start from one checkpoint, so that all between them is the window.
"""

import math

import pytest
import runs
import torch

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU platform's tests; a GPU has tests/gpu"),
]
KL = "actor/distillation/kl"  # mean of log p_student - log p_teacher, nats a token
FULL = "[probe] verl's vLLM: [[[0, [null, null]], [1, [null, null]], [2, [null, null]]]]"


def distill(work, checkpoint, data, name: str, *overrides: str) -> runs.Run:
    teacher = f"distillation.teacher_models.teacher_model.model_path={checkpoint}"
    arguments = runs.rl(checkpoint, data, work / name, teacher, runs.GUARD, *overrides, preset="[distill,cpu_distill]")
    run = runs.run(work, name, arguments, **runs.loading("probe"))
    assert run.code == 0, run.output[-3000:]
    return run


def furthest(metrics: dict) -> float:
    """The largest difference of a token's log-prob between student and teacher, nats."""
    return max(abs(metrics[f"actor/distillation/loss_{end}"]) for end in ("min", "max"))


def test_a_windowed_student_learns_from_a_teacher_without(work, checkpoint, data):
    run = distill(work, checkpoint, data, "distill", "trainer.total_training_steps=2")
    assert "[swarr] both sides see the same window: 16 (layers 0-2)" in run.output
    assert run.output.count("[probe]") == 1 and FULL in run.output
    assert sorted(run.metrics) == [1, 2]
    for step, metrics in run.metrics.items():  # step 2 follows a weight sync, of the student alone
        assert math.isfinite(metrics[KL]), step
        assert metrics["actor/loss"] == pytest.approx(metrics["actor/distillation/loss"]), "no task reward"
        assert metrics["actor/grad_norm"] > 0.1, step
        assert metrics[runs.DIFF_MAX] < 1e-4, step
        assert abs(metrics["actor/distillation/loss"]) < 1e-3, "less what all responses have in common"
    assert run.metrics[1][KL] > 0.5


def test_where_no_sequence_outgrows_the_window_there_is_nothing_to_learn(work, checkpoint, data):
    k1 = "distillation.distillation_loss.loss_mode=k1"
    run = distill(work, checkpoint, data, "distill_nothing", "swarr.window=256", "trainer.total_training_steps=1", k1)
    assert FULL in run.output
    assert furthest(run.metrics[1]) < 1e-4 and run.metrics[1]["actor/grad_norm"] < 1e-4
