# SPDX-License-Identifier: Apache-2.0
"""Both judges: of the windows, and of the probabilities."""

import pytest
import torch

from swarr_verl.verify import PROBS_DIFF_MEAN, EngineWindow, MismatchGuard, WindowMismatch, check_surprise, compare


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


def scored(policy: torch.Tensor, sampler: torch.Tensor, responses: int = 64, stop: int = 0) -> tuple[list, list]:
    """Responses drawn from `sampler`, logits of (vocabulary,), under `policy`: to token `stop`, 100 tokens at most."""
    torch.manual_seed(0)
    logp = policy.log_softmax(0)
    entropy = -(logp.exp() * logp).sum()
    drawn = torch.multinomial(sampler.softmax(0), responses * 100, replacement=True).view(responses, 100)
    ends = [int(row.eq(stop).nonzero()[0]) + 1 if row.eq(stop).any() else 100 for row in drawn]
    return [float((-logp[row[:end]] - entropy).sum()) for row, end in zip(drawn, ends, strict=True)], ends


LOGITS = torch.linspace(0, 6, 50)


@pytest.mark.parametrize("stop", [0, 25, 45])  # an end that is hardly ever, at times, and soon drawn
def test_own_samples_are_as_surprising_as_they_should_be(stop):
    assert abs(check_surprise(*scored(LOGITS, LOGITS, 4000, stop), limit=0.05)) < 0.02


def test_greedy_responses_lie_below():
    assert check_surprise(*scored(LOGITS, 100 * LOGITS), limit=0.05) < 0


@pytest.mark.parametrize("sampler", [torch.zeros(50), LOGITS / 2])
def test_what_another_model_writes_is_no_result(sampler):
    found = scored(LOGITS, sampler)
    with pytest.raises(WindowMismatch, match=r"over swarr\.max_excess_nll=0\.05"):
        check_surprise(*found, limit=0.05)
    assert check_surprise(*found, limit=None) > 0.05


def test_one_response_is_no_proof():
    own, other = scored(LOGITS, LOGITS, 63), scored(LOGITS, torch.zeros(50), 1)
    check_surprise(own[0] + other[0], own[1] + other[1], limit=0.05)


def test_absurd_responses_among_good_ones_are_no_result():
    """As many as made the H100's run of W512 wrong: a spread of their own does not excuse them."""
    good, absurd = scored(LOGITS, LOGITS, 40), scored(LOGITS, -LOGITS, 24, stop=10)
    with pytest.raises(WindowMismatch):
        check_surprise(good[0] + absurd[0], good[1] + absurd[1], limit=0.05)


def test_not_a_number_is_no_result():
    with pytest.raises(WindowMismatch):
        check_surprise([float("nan")], [1], limit=0.05)
