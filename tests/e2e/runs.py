# SPDX-License-Identifier: Apache-2.0
"""Runs of verl's real entry points in a process of their own, bounded in time, on a CPU or on GPUs.

A vLLM worker that dies during weight sync leaves verl's driver waiting: nothing here waits without a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

GPU = torch.cuda.is_available()
SFT, RL = ("sft", "grpo") if GPU else ("[sft,cpu_sft]", "[grpo,cpu_rl]")
PACKED = ["model.use_remove_padding=true"] if GPU else []
ON_GPU = [  # several runs share a machine; a small one, for verl
    "actor_rollout_ref.model.use_remove_padding=true",
    "critic.model.use_remove_padding=true",
    "actor_rollout_ref.actor.strategy=fsdp2",
    "critic.strategy=fsdp2",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.05",
    "++actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=1073741824",
    "actor_rollout_ref.rollout.enforce_eager=true",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "reward.num_workers=1",
    "trainer.n_gpus_per_node=1",
    "trainer.nnodes=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "+ray_kwargs.ray_init.include_dashboard=false",
    "ray_kwargs.ray_init.num_cpus=16",
]
DIFF_MAX = "training/rollout_probs_diff_max"
# Greedy tokens with raw log-probs make a run repeatable; advantages then come from the differences between prompts.
REPEATABLE = (
    "algorithm.adv_estimator=reinforce_plus_plus",
    "actor_rollout_ref.rollout.top_k=1",
    "actor_rollout_ref.rollout.logprobs_mode=raw_logprobs",
    "actor_rollout_ref.rollout.n=1",
    "actor_rollout_ref.actor.entropy_coeff=0.01",
)
LORA = [
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.lora_alpha=16",
    "actor_rollout_ref.rollout.load_format=safetensors",
    "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra]",
]
RAY_TOO_SLOW = "The current node timed out during startup"  # ray 2.60's own 30 s (_private/node.py): nothing ran yet
GUARD = "swarr.max_probs_diff_mean=1e-4"  # fp32 on a CPU
LIMIT = 900  # seconds a run may take; 100 to 250 on two idle cores, and two run side by side


@dataclass
class Run:
    """A finished (or killed) run: exit code, console output, and verl's metrics by step."""

    code: int
    output: str
    metrics: dict[int, dict]


def loading(module: str) -> dict[str, str]:
    """Environment of a run whose verl processes all load a module of this folder."""
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {"VERL_USE_EXTERNAL_MODULES": module, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def sabotage(kind: str) -> dict[str, str]:
    """Environment of a run with one of the faults in sabotage.py."""
    return {**loading("sabotage"), "SABOTAGE": kind}


def assert_same(found: dict, wanted: dict, keys: list[str]) -> None:
    """Metrics of one step of two runs."""
    for key in keys:
        assert found[key] == pytest.approx(wanted[key], rel=1e-3, abs=1e-5), key


def start(folder: Path, name: str, module: list[str], env: dict[str, str]) -> subprocess.Popen:
    """Start a run in a process group of its own; console to NAME.log, verl's file logger to NAME.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    full = {
        **os.environ,
        "VERL_FILE_LOGGER_PATH": str(folder / f"{name}.jsonl"),
        "HF_HUB_OFFLINE": "1",
        **env,
    }
    with open(folder / f"{name}.log", "w") as log:
        command = [sys.executable, *module]
        return subprocess.Popen(command, stdout=log, stderr=log, env=full, cwd=folder, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for all that is left of it: torchrun's, Ray's and vLLM's processes lead sessions of their own."""
    if process.poll() is None:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def finish(process: subprocess.Popen, folder: Path, name: str, until: Callable[[], bool] | None = None) -> Run:
    """Wait for the end, or SIGKILL everything as soon as `until()` holds; then read what the run left."""
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline and not (until and until()):
        time.sleep(0.2)
    timed_out = time.monotonic() >= deadline
    kill(process)
    output = (folder / f"{name}.log").read_text(errors="replace")
    assert not timed_out, f"no end within {LIMIT} s:\n{output[-3000:]}"
    log = folder / f"{name}.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    metrics: dict[int, dict] = {}
    for line in map(json.loads, lines):
        metrics.setdefault(line["step"], {}).update(line["data"])
    return Run(process.returncode, output, metrics)


def run(folder: Path, name: str, module: list[str], until=None, **env: str) -> Run:
    """Start and finish; once more, where Ray itself did not come up on a busy machine."""

    def attempt() -> Run:
        return finish(start(folder, name, module, env), folder, name, until)

    found = attempt()
    return attempt() if found.code and RAY_TOO_SLOW in found.output else found


def merge(folder: Path, name: str, shards: Path) -> Path:
    """What verl's merger makes of a checkpoint's shards."""
    target = folder / name
    arguments = ["-m", "verl.model_merger", "merge", "--backend", "fsdp", "--local_dir", str(shards)]
    merged = run(folder, f"{name}_log", [*arguments, "--target_dir", str(target)])
    assert merged.code == 0, merged.output[-3000:]
    return target


def sft(checkpoint: Path, data: Path, out: Path, *overrides: str, processes: int = 1) -> list[str]:
    """Arguments of `python` for an SFT conversion of 6 steps that saves every third."""
    return [
        *("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"),
        *("-m", "verl.trainer.sft_trainer", f"+swarr={SFT}", "swarr.window=16", f"model.path={checkpoint}"),
        *(f"data.train_files={data}/sft.parquet", f"data.val_files={data}/sft.parquet", "data.train_batch_size=8"),
        *("data.max_length=128", "optim.lr=1e-3", "trainer.total_training_steps=6", "trainer.total_epochs=1"),
        *("trainer.save_freq=3", "trainer.test_freq=3", "trainer.logger=[console,file]"),
        *(f"trainer.n_gpus_per_node={processes}", f"trainer.default_local_dir={out}"),
        *PACKED,
        *overrides,
    ]


def rl(checkpoint: Path, data: Path, out: Path, *overrides: str, preset: str = RL) -> list[str]:
    """Arguments of `python` for 4 steps of RL at window 16 with responses of 5 windows, saving every second."""
    rollout, actor = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
    return [
        *("-m", "verl.trainer.main_ppo", f"+swarr={preset}", "swarr.window=16"),
        *(f"actor_rollout_ref.model.path={checkpoint}", f"data.train_files={data}/rl_train.parquet"),
        *(f"data.val_files={data}/rl_val.parquet", "data.train_batch_size=4", "data.max_prompt_length=64"),
        *("data.max_response_length=80", f"{rollout}.max_model_len=160", f"{rollout}.max_num_seqs=16"),
        *(f"{rollout}.ignore_eos=true", f"{rollout}.n=2", f"{rollout}.log_prob_micro_batch_size_per_gpu=4"),
        *(f"{actor}.ppo_mini_batch_size=4", f"{actor}.ppo_micro_batch_size_per_gpu=4", f"{actor}.optim.lr=1e-3"),
        *("data.seed=1", "trainer.total_training_steps=4", "trainer.total_epochs=1"),
        *("trainer.val_before_train=false", "trainer.save_freq=2", "trainer.logger=[console,file]"),
        f"trainer.default_local_dir={out}",
        *(ON_GPU if GPU else []),
        *overrides,
    ]
