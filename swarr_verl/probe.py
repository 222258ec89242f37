# SPDX-License-Identifier: Apache-2.0
"""Context need of some responses of a step of RL (`swarr.need`), read by a model of full attention beside the trainer.

The probe is a Ray actor. It reads while the trainer takes old log-probs and updates, so that only what is left of its
time is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
GRADES = {"right": True, "wrong": False}  # None: not graded
_PATIENCE = 1800  # seconds for a large checkpoint to be loaded


class Reading(NamedTuple):
    """Of each of some responses: nats, summed over its tokens, and their number; the seconds of reading them all."""

    need: list[float]
    nll: list[float]
    tokens: list[int]
    seconds: float

    def mean(self, of: list[float], chosen: Sequence[int]) -> float:
        """Nats a token of the chosen responses."""
        return sum(of[place] for place in chosen) / sum(self.tokens[place] for place in chosen)


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
        """Read each response twice (need.py)."""
        began, stride = time.monotonic(), max(1, self._window // _GROUPS)
        here = [(tokens.to(self._model.device), prompt) for tokens, prompt in texts]
        losses = list(context_need(self._model, here, self._window, stride))
        need = [(truncated - whole).sum().item() for whole, truncated in losses]
        nll = [whole.sum().item() for whole, _ in losses]
        return Reading(need, nll, [len(whole) for whole, _ in losses], time.monotonic() - began)


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
        self._pending: tuple[int, list[bool | None], Any] | None = None  # step, which are right, reading

    def start(self, step: int, texts: list[Text], right: list[bool | None]) -> None:
        """Begin to read the responses of a step, if it has any; `right` of each, None where nothing grades it."""
        if texts:
            self._pending = step, right, self._reader.read.remote(texts)

    def is_due(self, step: int) -> bool:
        """The first step, and every so many from there."""
        return (step - 1) % self._every == 0

    def finish(self) -> dict[str, float]:
        """Wait for what was begun, say what it cost, and return metrics; none if nothing was.

        Right and wrong answers apart, too: a wrong one may need little for it has lost the question
        (examples/mismatch). Of what the step has none there is no metric.
        """
        if self._pending is None:
            return {}
        (step, right, pending), self._pending, began = self._pending, None, time.monotonic()
        found: Reading = ray.get(pending)
        waited = time.monotonic() - began
        places = range(len(right))
        chosen = {name: [place for place in places if right[place] is grade] for name, grade in GRADES.items()}
        need = {name: found.mean(found.need, group) for name, group in {"mean": places, **chosen}.items() if group}
        print(
            f"[swarr] step {step}: need {need['mean']:+.3f} nats a token of {len(right)} responses, read in "
            f"{found.seconds:.1f} s, of which the step waited {waited:.1f}",
            flush=True,
        )
        metrics = {f"need/{name}": nats for name, nats in need.items()}
        nll = found.mean(found.nll, places)
        return metrics | {"need/nll": nll, "need/seconds": found.seconds, "timing_s/need": waited}


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
