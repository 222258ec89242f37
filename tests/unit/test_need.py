# SPDX-License-Identifier: Apache-2.0
"""Context need against its definition: each token alone behind the text that it may see, in fp64."""

from functools import cache

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from swarr_verl.families import apply_window
from swarr_verl.need import context_need, nll
from swarr_verl.window import WindowSpec


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny.config("qwen2")).double().eval()


@cache
def windowed(layers, window: int | None = 8):
    config = tiny.config("qwen2")
    return tiny.model(config if window is None else apply_window(config, WindowSpec(window, layers)), attn="sdpa")


def alone(model, tokens, at: int, context: int) -> float:
    """Of the token at a place, behind `context` tokens at most."""
    seen = tokens[max(0, at - context) : at]
    with torch.inference_mode():
        return -float(model(seen[None]).logits[0, -1].log_softmax(-1)[tokens[at]])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_token_sees_what_it_should(model, data):
    window = data.draw(st.integers(1, 45))
    stride = data.draw(st.integers(1, window))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    lengths = data.draw(st.lists(st.integers(2, 40), min_size=1, max_size=3))
    texts = [
        (torch.randint(3, 60, (length,), generator=draw), data.draw(st.integers(1, length - 1))) for length in lengths
    ]
    found = context_need(model, texts, window, stride, batch=data.draw(st.sampled_from([1, 50, 100, 4096])))
    for (tokens, prompt), (whole, truncated) in zip(texts, found, strict=True):
        length = len(tokens)
        assert whole.shape == truncated.shape == (length - prompt,)
        for index, at in enumerate(range(prompt, length)):
            assert float(whole[index]) == pytest.approx(alone(model, tokens, at, at), abs=1e-9)
            behind = (length - 1 - at) % stride  # tokens of its group that come after it
            context = window - behind if at + behind > window else at
            assert float(truncated[index]) == pytest.approx(alone(model, tokens, at, context), abs=1e-9), at


def test_a_stride_of_one_is_brute_force(model):
    tokens = torch.randint(3, 60, (30,), generator=torch.Generator().manual_seed(3))
    ((whole, truncated),) = context_need(model, [(tokens, 4)], 8)
    brute = [alone(model, tokens, at, 8) for at in range(4, 30)]
    assert truncated.tolist() == pytest.approx(brute, abs=1e-9)
    assert (truncated - whole)[:5].abs().max() == 0, "no more than 8 tokens before them"
    assert (truncated - whole)[5:].abs().min() > 0


@pytest.mark.parametrize("layers", ["all", (1,)], ids=["all slide", "a hybrid"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_under_a_window_a_batch_is_each_alone(layers, data):
    """Texts longer than the window among shorter ones, which are padded on the left."""
    lengths = data.draw(st.lists(st.integers(2, 60), min_size=1, max_size=4))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    texts = [torch.randint(3, 60, (length,), generator=draw) for length in lengths]
    scored = [data.draw(st.integers(1, length - 1)) for length in lengths]
    for text, count, found in zip(texts, scored, nll(windowed(layers), texts, scored), strict=True):
        with torch.inference_mode():
            losses = -windowed(layers)(text[None, :-1]).logits[0].log_softmax(-1)
        brute = losses.gather(1, text[1:, None])[-count:, 0]
        torch.testing.assert_close(found, brute, atol=1e-9, rtol=0)


@pytest.mark.parametrize("other", [7, 9, None])
def test_control_another_window_differs(other):
    texts = [torch.randint(3, 60, (length,), generator=torch.Generator().manual_seed(3)) for length in (60, 40)]
    found, others = (nll(windowed("all", window), texts, [20, 20]) for window in (8, other))
    for one, differs in zip(found, others, strict=True):
        assert (one - differs).abs().min() > 1e-6


@pytest.mark.parametrize(("prompt", "window", "stride"), [(0, 4, 1), (10, 4, 1), (2, 4, 5), (2, 4, 0)])
def test_sizes_that_do_not_fit(model, prompt, window, stride):
    with pytest.raises(ValueError, match=r"(prompt|stride)="):
        context_need(model, [(torch.arange(10), 2), (torch.arange(10), prompt)], window, stride)
