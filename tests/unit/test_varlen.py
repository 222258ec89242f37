# SPDX-License-Identifier: Apache-2.0
"""`torch_varlen` in transformers' flash path on a CPU, against sdpa's mask in fp64; its GPU branch over loops."""

import sys
import types

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import modeling_flash_attention_utils as upstream

from swarr_verl import attention, varlen
from swarr_verl.families import apply_window
from swarr_verl.window import WindowError, WindowSpec, visible


@pytest.fixture(autouse=True)
def active():
    attention.activate("torch_varlen")
    yield
    varlen.FLASH_FUNCTIONS.revert()


def both(family: str, window: int | None):
    """The same weights in fp64 over `torch_varlen`, and over sdpa's mask."""
    models = []
    for kernel in ("torch_varlen", "sdpa"):
        config = tiny.config(family)  # one each: a model's kernel is written into its config
        if window is not None:
            config = apply_window(config, WindowSpec(window))
        models.append(tiny.model(config, attn=kernel))
    assert [model.config._attn_implementation for model in models] == ["torch_varlen", "sdpa"]
    return models


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(1))


def logits_and_grads(model, tokens, mask=None, **inputs):
    embeds = model.get_input_embeddings()(tokens).detach().requires_grad_()
    logits = model(inputs_embeds=embeds, attention_mask=mask, use_cache=False, **inputs).logits
    if mask is not None:  # what stands at a pad is nobody's
        logits = logits * mask[..., None]
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=logits.dtype)
    (grad,) = torch.autograd.grad((logits * weight).sum(), embeds)
    return logits.detach(), grad


PACKED = torch.cat([torch.arange(n) for n in (40, 1, 3, 53)])[None]
INPUTS = {
    "batch": (ids(2, 60), {}),
    "packed": (ids(1, 97), {"position_ids": PACKED}),
    "left-padded": (ids(3, 60), {"mask": torch.arange(60) >= torch.tensor([[0], [7], [59]])}),
    "right-padded": (ids(3, 60), {"mask": torch.arange(60) < torch.tensor([[60], [53], [1]])}),
}


@pytest.mark.parametrize("window", [1, 16, None])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("case", INPUTS)
def test_torch_varlen_is_sdpa(family, window, case):
    tokens, inputs = INPUTS[case]
    for ours, oracle in zip(*(logits_and_grads(m, tokens, **inputs) for m in both(family, window)), strict=True):
        torch.testing.assert_close(ours, oracle, atol=1e-9, rtol=1e-9)


def test_control_another_window_diverges():
    oracle, _ = logits_and_grads(both("qwen2", 16)[1], *INPUTS["packed"][:1], position_ids=PACKED)
    for other in (15, 17, None):
        ours, _ = logits_and_grads(both("qwen2", other)[0], *INPUTS["packed"][:1], position_ids=PACKED)
        assert (ours - oracle).abs().max() > 1e-3, other


def test_generation_with_a_cache_is_sdpas():
    prompt = ids(1, 30)
    ours, oracle = (m.generate(prompt, max_new_tokens=12, do_sample=False) for m in both("qwen2", 8))
    assert torch.equal(ours, oracle)


def written_out(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
    """torch's `varlen_attn` by its documentation, in loops: (tokens, heads, head_dim)."""
    assert cu_q.dtype == cu_k.dtype == torch.int32 and window_size[1] == 0
    assert (max_q, max_k) == (int(cu_q.diff().max()), int(cu_k.diff().max())) and type(max_q) is type(max_k) is int
    groups, out = q.shape[1] // k.shape[1], torch.zeros_like(q)
    for row in range(len(cu_q) - 1):
        queries, keys = slice(cu_q[row], cu_q[row + 1]), slice(cu_k[row], cu_k[row + 1])
        scores = torch.einsum("qhd,khd->hqk", q[queries], k[keys].repeat_interleave(groups, 1)) * scale
        seen = visible(*scores.shape[1:], None if window_size[0] < 0 else window_size[0] + 1)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        out[queries] = torch.einsum("hqk,khd->qhd", weights, v[keys].repeat_interleave(groups, 1))
    return out


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.none() | st.integers(1, 50), st.sampled_from([1, 2, 4]))
def test_the_two_branches_mean_the_same(lengths, window, kv_heads):
    """What a GPU's call says to torch, and what a CPU does instead."""
    generator = torch.Generator().manual_seed(sum(lengths))
    q, k, v = (torch.randn(sum(lengths), n, 8, generator=generator).double() for n in (4, kv_heads, kv_heads))
    cu = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "varlen_attn", written_out)
        theirs = varlen._torchs_kernel(q, k, v, (cu, cu), (max(lengths),) * 2, 0.3, window)
    size = (-1, -1) if window is None else (window - 1, window - 1)  # as transformers says it
    call = dict(cu_seqlens_q=cu, cu_seqlens_k=cu, max_seqlen_q=max(lengths), max_seqlen_k=max(lengths))
    ours = varlen.flash_attn_varlen_func(q, k, v, **call, softmax_scale=0.3, causal=True, window_size=size)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"dropout_p": 0.1}, "attention_dropout"),
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "attention sinks"),
        ({"causal": False}, "not causal"),
    ],
)
def test_what_torchs_kernel_lacks_is_refused(option, named):
    q = torch.zeros(1, 5, 4, 8)
    with pytest.raises(WindowError, match=f"=torch_varlen has no .*{named}.*sdpa"):
        varlen.flash_attn_func(q, q, q, **{"causal": True, **option})


def test_transformers_hands_on_what_would_be_refused():
    """It leaves out, silently, what a function has no parameter for."""
    supports = upstream._lazy_define_process_function(varlen.flash_attn_varlen_func).keywords["supports_mapping"]
    assert all(supports[name] for name in ("dropout_p", "softcap", "s_aux", "window_size"))


def test_torch_of_this_machine_has_windows():
    assert varlen.has_windows()


def test_flash_attn_4_is_given_integers(monkeypatch):
    """A function with flash-attn-4's signature, called by transformers for packed rows."""
    seen = []

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale, causal, window_size
    ):
        seen.append((max_seqlen_q, max_seqlen_k, window_size))
        return q[None]

    package = types.SimpleNamespace(flash_attn_func=None, flash_attn_varlen_func=flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", types.ModuleType("flash_attn"))
    monkeypatch.setitem(sys.modules, "flash_attn.cute", package)
    for name in ("_flash_fn", "_flash_varlen_fn", "_pad_fn", "_unpad_fn", "_process_flash_kwargs_fn"):
        monkeypatch.setattr(upstream, name, getattr(upstream, name))  # restored, as is the name that they go by:
    monkeypatch.setattr(upstream, "_loaded_implementation", None)
    q = torch.zeros(1, 97, 4, 8)
    call = dict(position_ids=PACKED, sliding_window=16, attn_implementation="flash_attention_4")
    upstream._flash_attention_forward(q, q, q, None, 97, True, **call)
    assert seen == [(53, 53, (15, 15))] and [type(n) for n in seen[0][:2]] == [int, int]
