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


def excess(policy: torch.Tensor, sampler: torch.Tensor, responses: int = 64, tokens: int = 100) -> list[float]:
    """Of responses drawn from `sampler`, logits of (vocabulary,), under `policy`."""
    torch.manual_seed(0)
    drawn = torch.multinomial(sampler.softmax(0), responses * tokens, replacement=True).view(responses, tokens)
    logp = policy.log_softmax(0)
    return (-logp[drawn] + (logp.exp() * logp).sum()).mean(1).tolist()


LOGITS = torch.linspace(0, 6, 50)


def test_own_samples_are_as_surprising_as_they_should_be():
    assert abs(check_surprise(excess(LOGITS, LOGITS), limit=0.05)) < 0.05


def test_greedy_responses_lie_below():
    assert check_surprise(excess(LOGITS, 100 * LOGITS), limit=0.05) < 0


@pytest.mark.parametrize("sampler", [torch.zeros(50), LOGITS / 2])
def test_what_another_model_writes_is_no_result(sampler):
    found = excess(LOGITS, sampler)
    with pytest.raises(WindowMismatch, match=r"over swarr\.max_excess_nll=0\.05"):
        check_surprise(found, limit=0.05)
    assert check_surprise(found, limit=None) > 0.05


def test_one_response_is_no_proof():
    check_surprise(excess(LOGITS, LOGITS, 63) + excess(LOGITS, torch.zeros(50), 1), limit=0.01)


def test_not_a_number_is_no_result():
    with pytest.raises(WindowMismatch):
        check_surprise([float("nan")], limit=0.05)
