# SPDX-License-Identifier: Apache-2.0
"""THE definition of the window. Every other module asks this one.

A window of W lets a query see W keys, itself included: key k is visible to query q iff ``q - W < k <= q``.
That is what transformers (5.9.0, `masking_utils.sliding_window_overlay`) and vLLM (0.24.0 and 0.28.0) mean by
`sliding_window`; raw flash-attn calls the same window ``(W - 1, 0)``. How each model family writes it into its
config.json is the matter of families.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from swarr_verl.errors import UserError


class WindowError(UserError):
    """The window asked for cannot be had. The message names the Hydra key and the remedy."""


@dataclass(frozen=True)
class WindowSpec:
    """What the user asked for.

    Args:
        window: keys a query sees, itself included; tokens, >= 1 (`swarr.window`).
        layers: which layers slide (`swarr.layers`). "all"; "full_every:N", where every N-th layer (N - 1, 2N - 1, ...)
            keeps full attention; or the indices of the layers that keep it.

    Raises:
        WindowError: not a window, or not a pattern.

    >>> WindowSpec(64).windows(num_layers=2)
    [64, 64]
    >>> WindowSpec(64, "full_every:2").windows(num_layers=4)
    [64, None, 64, None]
    >>> WindowSpec(64, (0,)).windows(num_layers=3)
    [None, 64, 64]
    """

    window: int
    layers: str | tuple[int, ...] = "all"

    def __post_init__(self) -> None:
        if not is_int(self.window, at_least=1):
            raise WindowError(
                f"swarr.window={self.window!r} is not a window: give a whole number of tokens >= 1, "
                "e.g. swarr.window=4096 (the query itself counts)."
            )
        if isinstance(self.layers, str):
            every = self.layers.removeprefix("full_every:")
            known = self.layers == "all" or (every != self.layers and every.isdecimal() and int(every) >= 2)
        else:
            known = isinstance(self.layers, tuple) and len(self.layers) > 0
            known = known and all(is_int(layer, at_least=0) for layer in self.layers)
        if not known:
            raise WindowError(
                f"swarr.layers={self.layers!r} is not a pattern: give all, full_every:N with N >= 2, or a list of the "
                "layers that keep full attention, e.g. swarr.layers=[0,12]."
            )

    @classmethod
    def of(cls, knobs: Mapping[str, Any]) -> WindowSpec:
        """From the config group `swarr` (keys `window` and `layers`)."""
        layers = knobs["layers"]
        is_list = isinstance(layers, Sequence) and not isinstance(layers, str)
        return cls(knobs["window"], tuple(layers) if is_list else layers)

    def windows(self, num_layers: int) -> list[int | None]:
        """Window of each layer, in tokens; None means full attention.

        Raises:
            WindowError: the pattern names a layer that the model does not have, or leaves none that slides.
        """
        if self.layers == "all":
            full: set[int] = set()
        elif isinstance(self.layers, str):
            every = int(self.layers.removeprefix("full_every:"))
            full = set(range(every - 1, num_layers, every))
        else:
            full = set(self.layers)
        if not full < set(range(num_layers)):
            raise WindowError(
                f"swarr.layers={self.layers!r}: the model has the layers 0 to {num_layers - 1}, and at least one of "
                "them must slide."
            )
        return [None if layer in full else self.window for layer in range(num_layers)]


def is_int(value: Any, at_least: int) -> bool:
    """Whether a knob is a whole number, and no less; YAML's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def visible(num_queries: int, num_keys: int, window: int | None) -> torch.Tensor:
    """Who sees whom, the queries being the last `num_queries` of `num_keys` positions.

    Returns:
        Bool tensor of shape (num_queries, num_keys); True where the query sees the key.

    >>> visible(3, 3, 2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    q = torch.arange(num_keys - num_queries, num_keys)[:, None]
    k = torch.arange(num_keys)[None, :]
    return (k <= q) & (k > q - (num_keys if window is None else window))


def visible_pairs(length: int, window: int | None) -> int:
    """How many (query, key) pairs `visible` leaves of one causal sequence of `length` tokens; None is full attention.

    >>> visible_pairs(3, 2), visible_pairs(3, None)
    (5, 6)
    """
    window = length if window is None else min(window, length)
    return window * (window + 1) // 2 + (length - window) * window


def describe(windows: list[int | None]) -> str:
    """Windows in runs, for messages.

    >>> describe([64, 64, None])
    '64 (layers 0-1), full (layer 2)'
    """
    runs: list[tuple[int | None, int, int]] = []
    for i, window in enumerate(windows):
        if runs and runs[-1][0] == window:
            runs[-1] = (window, runs[-1][1], i)
        else:
            runs.append((window, i, i))
    return ", ".join(
        f"{'full' if w is None else w} ({f'layer {a}' if a == b else f'layers {a}-{b}'})" for w, a, b in runs
    )
