# SPDX-License-Identifier: Apache-2.0
"""Both sides see the same window, or nothing runs.

The trainer's modules and the live engine are each asked what window every layer applies; `compare` is the judge.
`MismatchGuard` watches what the two sides compute while training goes on, `check_surprise` after an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from swarr_verl.window import WindowError, describe

PROBS_DIFF_MEAN = "training/rollout_probs_diff_mean"
SCORED_TOKENS = 256  # the first of a response, for check_surprise
_TOKEN_DEVIATION = 2.0  # nats: generous for negative log-likelihood less entropy of a language model's own token


class EngineWindow(NamedTuple):
    """What one attention layer of a live vLLM engine uses; tokens, None is full attention."""

    kernel: int | None  # what the attention kernel masks
    kv_cache: int | None  # what the KV-cache group keeps


class WindowMismatch(WindowError):
    """Trainer and rollout are different models."""


def compare(trainer: list[int | None], engine: Mapping[int, EngineWindow]) -> str:
    """Compare both sides layer by layer.

    Args:
        trainer: window of each layer in the trainer's modules, tokens.
        engine: layer index -> what the engine uses there.

    Returns:
        One line for the log.

    Raises:
        WindowMismatch: with one line a differing layer.
    """
    diff = []
    for layer, window in enumerate(trainer):
        found = engine.get(layer)
        if found is None or found.kernel != window or found.kv_cache != window:
            diff.append(f"  layer {layer}: trainer {window}, engine {found}")
    diff += [f"  layer {layer}: trainer has none, engine {engine[layer]}" for layer in engine if layer >= len(trainer)]
    if diff:
        raise WindowMismatch(
            "trainer and rollout apply different windows; nothing was generated:\n"
            + "\n".join(diff)
            + "\nRemedy: leave the window to swarr.window (no window in rollout.engine_kwargs.vllm or in "
            "model.override_config), and check the installation with `python -m swarr_verl doctor`."
        )
    return (
        f"[swarr] both sides see the same window: {describe(trainer)}; trainer modules = vLLM kernels = "
        f"KV-cache groups in {len(trainer)} of {len(trainer)} layers"
    )


class MismatchGuard:
    """Stops a run in which trainer and rollout disagree about the probability of what was sampled.

    Args:
        limit: `swarr.max_probs_diff_mean`; probability, None switches the guard off.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit

    def check(self, metrics: Mapping[str, float]) -> None:
        """Check the metrics of one step.

        Raises:
            WindowMismatch: over the limit, or not a number.
        """
        if self.limit is None or PROBS_DIFF_MEAN not in metrics:
            return
        found = metrics[PROBS_DIFF_MEAN]
        if math.isnan(found) or found > self.limit:
            raise WindowMismatch(
                f"{PROBS_DIFF_MEAN}={found:.3g} exceeds swarr.max_probs_diff_mean={self.limit:g}: trainer and rollout "
                "are different models (window, weights or dtype), so the policy gradient would be wrong. Compare "
                "`[swarr] both sides` in the log, rollout.dtype and the weight sync; raise the limit only if the "
                "difference is understood."
            )


def check_surprise(excess: Sequence[float], tokens: Sequence[int], limit: float | None) -> float:
    """Compare how surprising responses are to the trainer's model with how surprising its own samples would be.

    The expected negative log-likelihood of a sample is the entropy; greedy responses, or those of a smaller top_p, lie
    below it. An engine that went wrong writes what the model finds absurd.

    Args:
        excess: of each response, negative log-likelihood less entropy, summed over its first SCORED_TOKENS; nats, both
            at the temperature of sampling. No more, so that a response that repeats itself to the end of its budget,
            which is never surprising, does not outweigh the others.
        tokens: that were summed over.
        limit: `swarr.max_excess_nll`; nats a token, None switches the check off.

    Returns:
        The mean, nats a token.

    Raises:
        WindowMismatch: it exceeds the limit by three standard errors, or is not a number. The error is that of a
            model's own samples; the spread of the responses at hand is large just where they are absurd.

    >>> check_surprise([-2.0, 2.0], [10, 30], limit=0.05)
    0.0
    """
    total = sum(tokens)
    mean = math.fsum(excess) / total
    error = _TOKEN_DEVIATION / math.sqrt(total)
    if limit is not None and not mean <= limit + 3 * error:
        raise WindowMismatch(
            f"the responses surprise the trainer's model by {mean:.3g} +- {error:.2g} nats a token more than its own "
            f"samples would, over swarr.max_excess_nll={limit:g}: the engine computed something else, so this is no "
            "result. Read the responses; look for errors in the log and for other processes on the GPU."
        )
    return mean
