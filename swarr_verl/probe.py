# SPDX-License-Identifier: Apache-2.0
"""Context need of some responses of a step of RL (`swarr.need`), read by a model of full attention beside the trainer.

The probe is a Ray actor. It reads while the trainer takes old log-probs and updates, so that only what is left of its
time is waited for.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import ray
import torch
from omegaconf import DictConfig
from verl.workers.config import HFModelConfig

from swarr_verl.companion import check_companion
from swarr_verl.need import Text, context_need, load
from swarr_verl.preflight import PreflightError, other_trainers
from swarr_verl.window import is_int

_GROUPS = 8  # a window is read in so many strides: tokens see 7/8 of it or more
_PATIENCE = 1800  # seconds for a large checkpoint to be loaded


class Reading(NamedTuple):
    """Of some responses: nats a token, and the seconds that reading them took."""

    need: float
    nll: float
    seconds: float


class Reader:
    """The model, in its own process.

    Args:
        path: checkpoint of full attention.
        window: tokens of context that tokens are held to.
        threads: of a CPU.
        device: cpu or cuda.
    """

    def __init__(self, path: str, window: int, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        self._model, self._window = load(path, device), window

    def read(self, texts: list[Text]) -> Reading:
        """Mean over the tokens of all responses (need.py)."""
        began, stride = time.monotonic(), max(1, self._window // _GROUPS)
        here = [(tokens.to(self._model.device), prompt) for tokens, prompt in texts]
        losses = context_need(self._model, here, self._window, stride)
        whole, truncated = (torch.cat(side) for side in zip(*losses, strict=True))
        return Reading((truncated - whole).mean().item(), whole.mean().item(), time.monotonic() - began)


class Probe:
    """The driver's side of a `Reader`.

    Args:
        knobs: `swarr.need`, with a model.

    Raises:
        PreflightError: the process did not start; names the Hydra key and the remedy.
    """

    def __init__(self, knobs: DictConfig) -> None:
        self.responses, self._every = knobs.responses, knobs.every
        device = "cuda" if knobs.num_gpus else "cpu"
        remote: Any = ray.remote(num_cpus=0, num_gpus=knobs.num_gpus)(Reader)  # its threads are no Ray CPUs
        self._reader = remote.remote(knobs.model, knobs.window, knobs.threads, device)
        try:
            ray.get(self._reader.__ray_ready__.remote(), timeout=_PATIENCE)
        except ray.exceptions.GetTimeoutError:
            raise PreflightError(
                f"swarr.need.num_gpus={knobs.num_gpus}: Ray gave the probe no such share within {_PATIENCE} s. "
                "Give Ray a GPU more than the trainer takes, or set it to 0."
            ) from None
        self._pending: tuple[int, int, Any] | None = None  # step, responses, reading

    def start(self, step: int, texts: list[Text]) -> None:
        """Begin to read the responses of a step, if it has any."""
        if texts:
            self._pending = step, len(texts), self._reader.read.remote(texts)

    def is_due(self, step: int) -> bool:
        """The first step, and every so many from there."""
        return (step - 1) % self._every == 0

    def finish(self) -> dict[str, float]:
        """Wait for what was begun, say what it cost, and return metrics; none if nothing was."""
        if self._pending is None:
            return {}
        (step, number, pending), self._pending, began = self._pending, None, time.monotonic()
        found: Reading = ray.get(pending)
        waited = time.monotonic() - began
        print(
            f"[swarr] step {step}: need {found.need:+.3f} nats a token of {number} responses, read in "
            f"{found.seconds:.1f} s, of which the step waited {waited:.1f}",
            flush=True,
        )
        return {"need/mean": found.need, "need/nll": found.nll, "need/seconds": found.seconds, "timing_s/need": waited}


def check(config: DictConfig, student: HFModelConfig) -> None:
    """Check `swarr.need` of a composed config of `verl.trainer.main_ppo`, where it has a model.

    Raises:
        PreflightError: names the Hydra key and the remedy.
    """
    knobs = config.swarr.need
    for name, least in (("window", 1), ("every", 1), ("responses", 1), ("threads", 1), ("num_gpus", 0)):
        if not is_int(knobs[name], least):
            raise PreflightError(f"swarr.need.{name}={knobs[name]}: give a whole number, {least} or more.")
    if config.trainer.val_only:
        raise PreflightError("swarr.need.model is read in training only, not with trainer.val_only: set it to null.")
    for key, is_so in other_trainers(config).items():
        if is_so:
            raise PreflightError(f"{key}: only the plugin's trainer reads swarr.need.model. Set swarr.need.model=null.")
    rollout = config.actor_rollout_ref.rollout
    check_companion(knobs.model, "swarr.need.model", rollout.prompt_length + rollout.response_length, student)
