# SPDX-License-Identifier: Apache-2.0
"""Both judges: of the windows, and of the probabilities."""

import pytest

from swarr_verl.verify import PROBS_DIFF_MEAN, EngineWindow, MismatchGuard, WindowMismatch, compare


def test_equal_sides_make_one_line():
    line = compare([8, 8], {0: EngineWindow(8, 8), 1: EngineWindow(8, 8)})
    assert "both sides see the same window: 8 (layers 0-1)" in line and "\n" not in line


@pytest.mark.parametrize(
    "engine",
    [
        {0: EngineWindow(8, 8), 1: EngineWindow(7, 8)},  # off by one in the kernel
        {0: EngineWindow(8, 8), 1: EngineWindow(8, 9)},  # and in what the cache keeps
        {0: EngineWindow(8, 8), 1: EngineWindow(None, None)},  # full attention
        {0: EngineWindow(8, 8)},  # a layer missing
        {0: EngineWindow(8, 8), 1: EngineWindow(8, 8), 2: EngineWindow(8, 8)},  # a layer too many
    ],
)
def test_any_difference_raises_with_the_layer(engine):
    with pytest.raises(WindowMismatch, match=r"layer [12]: trainer .*(?s:.)*Remedy: leave the window to swarr\.window"):
        compare([8, 8], engine)


def test_full_attention_on_both_sides_is_equal():
    assert "full (layer 0)" in compare([None], {0: EngineWindow(None, None)})


@pytest.mark.parametrize("found", [0.02, float("nan")])
def test_guard_stops_over_the_limit(found):
    with pytest.raises(WindowMismatch, match=r"exceeds swarr\.max_probs_diff_mean=0\.01"):
        MismatchGuard(0.01).check({PROBS_DIFF_MEAN: found})


def test_guard_lets_pass():
    MismatchGuard(0.01).check({PROBS_DIFF_MEAN: 0.009})
    MismatchGuard(0.01).check({})
    MismatchGuard(None).check({PROBS_DIFF_MEAN: 1.0})
