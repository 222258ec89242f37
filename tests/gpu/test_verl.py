# SPDX-License-Identifier: Apache-2.0
"""verl's real trainers with real vLLM on GPUs: what no CPU runs. Some need two. pytest-xdist shortens it (`-n 6`).

In bf16, so the two sides agree to rounding only; which window each has is asked of the live engines.
"""

import os

import pytest
import runs
import tiny
import torch

GPUS = torch.cuda.device_count()
pytestmark = [pytest.mark.timeout(590), pytest.mark.skipif(GPUS == 0, reason="no GPU")]
two = pytest.mark.skipif(GPUS < 2, reason="one GPU: two are needed")
MODEL, ACTOR, ROLLOUT = (f"actor_rollout_ref.{name}" for name in ("model", "actor", "rollout"))
CASES = {
    "fsdp2, dynamic batch": [
        f"{ACTOR}.use_dynamic_bsz=true",
        f"{ACTOR}.ppo_max_token_len_per_gpu=400",
        f"{ROLLOUT}.log_prob_use_dynamic_bsz=true",
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu=400",
    ],
    "fsdp1": [f"{ACTOR}.strategy=fsdp"],
    "torch_varlen": [f"+{MODEL}.override_config.attn_implementation=torch_varlen"],
    # Under FSDP2 verl 0.9.1 has fused kernels for tied embeddings only: otherwise lm_head is sharded apart.
    "fsdp1, fused kernels": [
        f"{ACTOR}.strategy=fsdp",
        f"{MODEL}.use_fused_kernels=true",
        f"{MODEL}.fused_kernel_options.impl_backend=triton",
    ],
    "lora adapter": runs.LORA,
    "lora merged": [*runs.LORA, f"{MODEL}.lora.merge=true"],
    "reference policy": [f"{ACTOR}.use_kl_loss=true", "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=4"],
    "hybrid": ["swarr.layers=[1]"],
}
TWO = [
    "trainer.n_gpus_per_node=2",
    f"{ACTOR}.ulysses_sequence_parallel_size=2",
    f"{ROLLOUT}.tensor_model_parallel_size=2",
]


@pytest.fixture
def gpu(monkeypatch):
    """One GPU for a run; workers of pytest-xdist, if there are any, take turns."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", str(int(worker) % GPUS))


def assert_trained(run: runs.Run, windows: str = "16 (layers 0-2)") -> None:
    assert run.code == 0, run.output[-3000:]
    assert f"[swarr] both sides see the same window: {windows}" in run.output
    assert "[swarr] attention kernel: " in run.output
    assert sorted(run.metrics) == [1, 2]
    for step, metrics in run.metrics.items():  # step 2 follows a weight sync
        print(step, {key: metrics[key] for key in ("training/rollout_probs_diff_mean", "actor/grad_norm")})
        assert metrics["training/rollout_probs_diff_mean"] < 0.05, step
        assert metrics["response_length/min"] == 80, "responses of 5 windows"
        assert metrics["actor/grad_norm"] > 0


def rl(folder, checkpoint, data, *overrides) -> runs.Run:
    options = ["trainer.total_training_steps=2", "swarr.max_probs_diff_mean=0.05", *overrides]
    return runs.run(folder, "rl", runs.rl(checkpoint, data, folder / "rl", *options))


@pytest.mark.parametrize("case", CASES)
def test_rl(case, gpu, tmp_path, checkpoint, data):
    windows = "16 (layer 0), full (layer 1), 16 (layer 2)" if case == "hybrid" else "16 (layers 0-2)"
    assert_trained(rl(tmp_path, checkpoint, data, *runs.REPEATABLE, *CASES[case]), windows)


def test_ppo_with_a_critic(gpu, tmp_path, data):
    llama = tiny.checkpoint(tmp_path / "llama", "llama")
    critic = [f"critic.model.path={llama}", "critic.ppo_micro_batch_size_per_gpu=4", "algorithm.adv_estimator=gae"]
    run = rl(tmp_path, llama, data, *critic)
    assert_trained(run)
    assert all(metrics["critic/grad_norm"] > 0 for metrics in run.metrics.values())


@two
def test_two_gpus_fsdp2_with_ulysses_and_tensor_parallel(tmp_path, checkpoint, data):
    run = rl(tmp_path, checkpoint, data, *runs.REPEATABLE, *TWO)
    assert_trained(run)
    assert "vLLM workers asked: 2" in run.output


@two
def test_sft_of_two_gpus_under_ulysses_is_that_of_one(tmp_path, checkpoint, data):
    """The same batches: in the first step the same weights, then what bf16 makes of them."""
    ulysses = ["engine.ulysses_sequence_parallel_size=2", "engine.strategy=fsdp2"]
    both = [
        runs.run(tmp_path, name, runs.sft(checkpoint, data, tmp_path / name, *options, processes=n))
        for name, options, n in (("one", ["engine.strategy=fsdp2"], 1), ("two", ulysses, 2))
    ]
    assert [run.code for run in both] == [0, 0], both[0].output[-1500:] + both[1].output[-3000:]
    one, two = (run.metrics for run in both)
    for key, tolerance in (("train/loss", 5e-3), ("train/grad_norm", 5e-2)):
        print(key, one[1][key], two[1][key], one[6][key], two[6][key])
        assert two[1][key] == pytest.approx(one[1][key], rel=tolerance)
    assert two[6]["train/loss"] == pytest.approx(one[6]["train/loss"], rel=5e-2)
