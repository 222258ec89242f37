# SPDX-License-Identifier: Apache-2.0
"""Both ends of a run name one socket; two runs on one host name two."""

import os
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed")
from verl.workers.rollout.vllm_rollout import ServerAdapter
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from swarr_verl import weight_socket


def ends(monkeypatch, address: str) -> tuple[str, str]:
    """Names that the sender and the receiver of a run give; its Ray instance has `address`."""
    context = SimpleNamespace(get_job_id=lambda: "01000000", gcs_address=address)
    monkeypatch.setattr(weight_socket.ray, "get_runtime_context", lambda: context)
    monkeypatch.setenv("VERL_RAY_JOB_ID", "")
    monkeypatch.setenv("VERL_REPLICA_RANK", "0")
    handle = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"  # as verl makes it
    monkeypatch.setattr(ServerAdapter, "__init__", lambda self: setattr(self, "zmq_handle", handle))
    weight_socket.name_for_vllm()
    assert os.environ["VERL_RAY_JOB_ID"]
    worker = SimpleNamespace(model_runner=SimpleNamespace(vllm_config=None), local_rank=0)
    return weight_socket.SwarrServerAdapter().zmq_handle, vLLMColocateWorkerExtension._get_zmq_handle(worker)


def test_the_ends_of_a_run_meet_and_two_runs_do_not(monkeypatch):
    sender, receiver = ends(monkeypatch, "10.0.0.1:6379")
    assert sender == receiver
    assert sender != ends(monkeypatch, "10.0.0.1:51234")[0]
    assert len(sender.removeprefix("ipc://")) < 108  # a socket's path, on Linux
