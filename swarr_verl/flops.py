# SPDX-License-Identifier: Apache-2.0
"""FLOPs of attention under a window, for the metric `mfu`: verl's own count, less the pairs that the window hides.

verl (0.9.1, verl/utils/flops_counter.py) counts attention, forward and backward, as ``6 * T^2 * heads * head_dim`` per
layer and sequence of T tokens: 12 FLOPs a pair and dimension, and T^2 / 2 for the causal T * (T + 1) / 2 pairs. It does
not read the window. What a layer's window leaves of the causal pairs is what it leaves of verl's term, so that a dense
layer, or a window that no sequence exceeds, has verl's number, bit for bit.

Importing this module registers; `swarr_verl.model` does so, hence in each process that counts, and only with +swarr.
"""

import functools
from collections.abc import Callable

from transformers import PretrainedConfig
from verl.utils.flops_counter import ESTIMATE_FUNC

from swarr_verl.families import FAMILIES, config_windows
from swarr_verl.window import visible_pairs

Estimate = Callable[[PretrainedConfig, int, list[int], float], float]


def hidden_share(length: int, windows: list[int | None]) -> float:
    """Share, from 0 to below 1, of a causal sequence's (query, key) pairs that the windows of the layers hide.

    Args:
        length: of the sequence, tokens, >= 1.
        windows: of each layer, tokens; None is full attention.

    >>> hidden_share(4, [1, None])  # 4 of 10 pairs are left in one layer, 10 of 10 in the other
    0.3
    """
    causal = visible_pairs(length, None) * len(windows)
    return (causal - sum(visible_pairs(length, window) for window in windows)) / causal


def windowed(estimate: Estimate) -> Estimate:
    """An estimate of verl that squares the length of each sequence in every layer, made to count the windows.

    Returns:
        The same function of the config, the number of tokens, the length of each sequence (tokens) and the time
        (seconds), in TFLOP/s. Without tokens, verl's estimate of one sequence is its attention term.
    """

    @functools.wraps(estimate)
    def count(config: PretrainedConfig, tokens_sum: int, batch_seqlens: list[int], delta_time: float) -> float:
        windows = config_windows(config)
        hidden = sum(
            estimate(config, 0, [length], delta_time) * hidden_share(length, windows)
            for length in batch_seqlens
            if length  # an empty sequence has no pairs to share out
        )
        return estimate(config, tokens_sum, batch_seqlens, delta_time) - hidden

    return count


# verl counts a family that it does not know as 0; those that it lacks have Llama's shapes.
_LLAMA = ESTIMATE_FUNC["llama"]
ESTIMATE_FUNC.update({family: windowed(ESTIMATE_FUNC.get(family, _LLAMA)) for family in FAMILIES})
