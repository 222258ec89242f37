# SPDX-License-Identifier: Apache-2.0
"""verl's other paths under the window, on a CPU: LoRA, DAPO, evaluation."""

import json
import re
from pathlib import Path

import pytest
import runs
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from swarr_verl.families import module_windows

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU platform's tests; a GPU has tests/gpu"),
]
MODEL, ACTOR, ROLLOUT = (f"actor_rollout_ref.{name}" for name in ("model", "actor", "rollout"))


def test_lora_adapter_reaches_the_rollout_and_the_merged_checkpoint(work, checkpoint, data):
    """The adapter alone is synced. A stale one would differ: its two steps move probabilities by more than 1e-2."""
    steps = ["trainer.total_training_steps=3", f"{ACTOR}.optim.lr=1e-2"]
    options = [*runs.REPEATABLE, runs.GUARD, *runs.LORA, *steps]
    run = runs.run(work, "lora", runs.rl(checkpoint, data, work / "lora", *options))
    assert run.code == 0, run.output[-3000:]
    assert "[swarr] both sides see the same window: 16 (layers 0-2)" in run.output
    for step in (1, 2, 3):
        assert run.metrics[step]["actor/grad_norm"] > 0
        assert run.metrics[step][runs.DIFF_MAX] < 1e-4, step
    merged = runs.merge(work, "lora_merged", work / "lora" / "global_step_2" / "actor")
    base = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    assert module_windows(base) == [16, 16, 16]
    original = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    assert torch.equal(base.lm_head.weight, original.lm_head.weight.bfloat16().float()), "verl merges into bf16"
    adapted, ids = PeftModel.from_pretrained(base, merged / "lora_adapter"), torch.arange(3, 90)[None]
    with torch.no_grad():
        with_adapter = adapted(ids).logits.softmax(-1)
        with adapted.disable_adapter():
            without = adapted(ids).logits.softmax(-1)
    assert (with_adapter - without).abs().max() > 1e-2


def test_dapo(work, checkpoint, data):
    """Groups by score: no random model is ever right, but its answers differ in length, which DAPO's penalty sees."""
    options = [
        f"{ROLLOUT}.ignore_eos=false",
        f"{ROLLOUT}.n=4",
        "algorithm.filter_groups.metric=score",
        "reward.reward_kwargs.overlong_buffer_cfg.len=60",
        "trainer.total_training_steps=2",
    ]
    arguments = runs.rl(checkpoint, data, work / "dapo", *options, runs.GUARD, preset="[dapo,cpu_rl]")
    run = runs.run(work, "dapo", arguments)
    assert run.code == 0, run.output[-3000:]
    for metrics in run.metrics.values():
        assert metrics[runs.DIFF_MAX] < 1e-4
        assert metrics["critic/score/min"] < metrics["critic/score/max"]


def validation(checkpoint, data, out: Path) -> list[str]:
    """Arguments of a validation-only run: two samples a problem, self-attention by a window that nothing reaches."""
    options = ["swarr.window=1000", f"{ROLLOUT}.val_kwargs.n=2", f"{ROLLOUT}.val_kwargs.do_sample=true"]
    options += [f"{ROLLOUT}.val_kwargs.temperature=1", f"{ROLLOUT}.ignore_eos=false"]
    drop = (
        "swarr.window",
        "trainer.val_before_train",
        "trainer.save_freq",
        "data.train",
        f"{ROLLOUT}.n=",
        f"{ACTOR}.ppo",
    )
    arguments = runs.rl(checkpoint, data, out, preset="[eval,cpu_rl]")
    return [*(argument for argument in arguments if not argument.startswith(drop)), *options]


def test_evaluation(work, checkpoint, data):
    """A validation-only run and its report."""
    run = runs.run(work, "eval", validation(checkpoint, data, work / "eval"))
    assert run.code == 0, run.output[-3000:]
    assert "[swarr] both sides see the same window: 1000 (layers 0-2)" in run.output
    (excess,) = re.findall(r"\[swarr\] 16 responses: ([+-]\d\.\d+) nats a token over the entropy", run.output)
    assert abs(float(excess)) < 0.1  # 16 responses of at most 80 tokens, drawn at temperature 1
    lines = [json.loads(line) for line in (work / "eval" / "0.jsonl").read_text().splitlines()]
    assert len(lines) == 16 and all(0 < line["tokens"] <= 80 for line in lines)
    report = runs.run(work, "report", ["-m", "swarr_verl", "report", str(work / "eval"), "--out", str(work / "out")])
    assert report.code == 0, report.output
    right = 100 * sum(line["acc"] for line in lines) / len(lines)  # a random model's, now and then
    assert f"| eval | 8 | {right:.1f} ± " in (work / "out" / "report.md").read_text()


def test_an_evaluation_with_failed_rollouts_is_an_error(work, checkpoint, data):
    """verl would go on with the samples that came back."""
    run = runs.run(work, "failed", validation(checkpoint, data, work / "failed"), **runs.sabotage("rollout"))
    assert run.code != 0
    assert "[sabotage] the engine is dead" in run.output
    assert "of 16 samples came back, the other rollouts failed" in run.output
