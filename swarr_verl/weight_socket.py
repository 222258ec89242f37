# SPDX-License-Identifier: Apache-2.0
"""The socket that announces new weights to vLLM, one for each run on a host.

verl 0.9.1 names it /tmp/rl-colocate-zmq-JOB-...: the first job of every Ray instance has the same id, so two runs on
one host meet in one socket (patches/verl-0.9.1/0013). The address of the Ray instance tells them apart.
"""

from __future__ import annotations

import os
from typing import Any

import ray
from verl.workers.rollout.vllm_rollout import ServerAdapter


def job_on_host() -> str:
    """Id of this run among all of its host: Ray's job id and the address of its Ray instance."""
    context = ray.get_runtime_context()
    return f"{context.get_job_id()}-{context.gcs_address.replace(':', '-')}"


def name_for_vllm() -> None:
    """Tell the vLLM processes that this one starts: they read verl's variable."""
    os.environ["VERL_RAY_JOB_ID"] = job_on_host()


class SwarrServerAdapter(ServerAdapter):
    """verl's sender of weights, on the socket of its own run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zmq_handle: str = self.zmq_handle.replace(ray.get_runtime_context().get_job_id(), job_on_host())
