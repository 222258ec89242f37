# SPDX-License-Identifier: Apache-2.0
"""Reach against its definition: eager's weights on the keys that transformers' own sliding mask hides, in fp64."""

from functools import cache
from unittest import mock

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from swarr_verl.families import FAMILIES, apply_window
from swarr_verl.reach import reach
from swarr_verl.window import WindowSpec


@cache
def model(family: str = "qwen2", window: int | None = None) -> PreTrainedModel:
    """With two heads a key head; of full attention, or of a window."""
    config = tiny.config(family)
    return tiny.model(config if window is None else apply_window(config, WindowSpec(window)))


def ids(length: int) -> torch.Tensor:
    return torch.randint(3, 128, (length,), generator=torch.Generator().manual_seed(length))


def weights(of: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """(layers, heads, T, T); eager makes them fp32 in its softmax, whatever the model is of."""
    softmax = mock.patch("torch.nn.functional.softmax", lambda scores, dim, dtype: scores.softmax(dim))
    with torch.inference_mode(), softmax:
        return torch.cat(of(tokens[None], output_attentions=True, use_cache=False).attentions)


def brute(family: str, tokens: torch.Tensor, prompt: int, window: int) -> torch.Tensor:
    seen = weights(model(family, window), tokens[:-1])[0, 0] > 0
    mass = weights(model(family), tokens[:-1]).masked_fill(seen, 0).sum(-1)
    return mass[..., prompt - 1 :].mean(-1)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), length=st.integers(2, 60), window=st.integers(1, 64), block=st.integers(1, 70))
def test_is_brute_force(data, length, window, block):
    tokens, prompt = ids(length), data.draw(st.integers(1, length - 1), label="prompt")
    found = reach(model(), (tokens, prompt), window, block)
    assert found.shape == (3, 4) and found.dtype == torch.float64
    torch.testing.assert_close(found, brute("qwen2", tokens, prompt, window), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_text_much_longer_than_the_window(family):
    tokens = ids(300)
    found = reach(model(family), (tokens, 30), 8)
    torch.testing.assert_close(found, brute(family, tokens, 30, 8), atol=1e-12, rtol=1e-9)
    assert found.min() > 0.05 and found.max() < 1


def test_control_another_window_differs():
    right = brute("qwen2", ids(300), 30, 8)
    less, more = (reach(model(), (ids(300), 30), window) for window in (7, 9))
    assert (less - right).min() > 1e-4 and (right - more).min() > 1e-4


@pytest.mark.parametrize(("window", "older"), [(38, True), (39, False), (40, False)])
def test_a_window_that_holds_the_text_hides_nothing(window, older):
    """39 tokens are read: the last query has them all."""
    assert bool((reach(model(), (ids(40), 5), window) > 0).all()) == older
    assert bool((reach(model(), (ids(40), 5), window) > 0).any()) == older


def test_the_model_is_as_it_was():
    probe, tokens = model(), ids(50)
    kernel = probe.config._attn_implementation
    before = weights(probe, tokens)
    reach(probe, (tokens, 5), 4)
    assert probe.config._attn_implementation == kernel
    assert torch.equal(weights(probe, tokens), before)


class Largest(TorchDispatchMode):
    """The most numbers that one tensor had."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.most = max(self.most, one.numel())
        return found


def test_memory_grows_with_the_length_only():
    most = []
    for length in (1001, 2001):
        with Largest() as largest:
            reach(model(), (ids(length), 5), 8, block=16)
        most.append(largest.most)
    assert most[1] <= 2 * most[0] < 1000**2


def test_a_model_with_a_window_is_refused():
    with pytest.raises(ValueError, match="full attention, without sliding_window"):
        reach(model("qwen2", 8), (ids(40), 5), 8)
