# SPDX-License-Identifier: Apache-2.0
"""transformers under the window against the definition, outputs and gradients: every family, pattern, form, kernel.

The oracle is the dense model in fp64, each row alone, each layer given the mask of `window.visible`. In fp64 a kernel
must equal it (eager to 1e-4: its softmax is fp32 whatever the dtype); in a lower dtype it may be at most twice as far
from it as eager is in that dtype.
"""

import functools

import pytest
import tiny
import torch
from forms import bounded, logits_and_grads, one_by_one, packed, padded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swarr_verl import attention, varlen
from swarr_verl.families import FAMILIES, apply_window
from swarr_verl.window import WindowSpec, visible

LAYERS, W = 4, 16
ROWS = (8 * W, 3, 53)
KERNELS = {"eager": 1e-4, "sdpa": 1e-10, varlen.TORCH_VARLEN: 1e-10}  # tolerance in fp64
HYBRIDS = ("full_every:4", (0, 2))
PATTERNS = [
    (family, layers) for family, it in FAMILIES.items() for layers in ("all", *(HYBRIDS if it.has_hybrids else ()))
]
WINDOWS = (1, 5, W - 1, W, W + 1, max(ROWS) - 1, max(ROWS), max(ROWS) + 1)  # 16: vLLM's block


@pytest.fixture(autouse=True, scope="module")
def active():
    attention.activate(varlen.TORCH_VARLEN)
    yield
    varlen.FLASH_FUNCTIONS.revert()


def model(family: str, window: int | None, layers="all", attn: str = "eager", dtype=torch.float64):
    """The family's dense weights in the model that `apply_window` asks for; dense without a window."""
    config = tiny.config(family, layers=LAYERS)
    dense = tiny.model(config, attn=attn, dtype=dtype)
    if window is None:
        return dense
    built = tiny.model(apply_window(config, WindowSpec(window, layers)), attn=attn, dtype=dtype)
    built.load_state_dict(dense.state_dict())
    return built


NAN = ("eager", padded)  # in fp64 only: a pad sees nothing, and fp64's least number is -inf to eager's fp32 softmax


@functools.cache
def definition(family: str, window: int | None, layers="all", rows=ROWS):
    """The oracle."""
    dense = model(family, None, attn="sdpa")
    widths = [None] * LAYERS if window is None else WindowSpec(window, layers).windows(LAYERS)
    for layer, width in zip(dense.model.layers, widths, strict=True):
        layer.register_forward_pre_hook(functools.partial(_with_mask, width), with_kwargs=True)
    return logits_and_grads(dense, one_by_one, rows)


def _with_mask(window, layer, args, kwargs):
    length = args[0].shape[1]
    return args, {**kwargs, "attention_mask": visible(length, length, window)[None, None]}


def assert_equal(found, oracle, tolerance):
    for ours, wanted in zip(found, oracle, strict=True):
        torch.testing.assert_close(ours, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("family", "layers"), PATTERNS)
def test_every_kernel_and_form_is_the_definition(family, layers, window, record):
    record(family, "transformers", layers)
    oracle = definition(family, window, layers)
    for kernel, tolerance in KERNELS.items():
        built = model(family, window, layers, kernel)
        assert built.config._attn_implementation == kernel
        for form in (one_by_one, packed, padded):
            if (kernel, form) != NAN:
                assert_equal(logits_and_grads(built, form, ROWS), oracle, tolerance)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(PATTERNS),
    st.integers(1, 70),
    st.lists(st.integers(1, 130), min_size=1, max_size=4),
    st.sampled_from(sorted(KERNELS)),
    st.sampled_from([packed, padded]),
)
def test_over_shapes(pattern, window, rows, kernel, form):
    family, layers = pattern
    assume((kernel, form) != NAN)
    oracle = definition.__wrapped__(family, window, layers, tuple(rows))
    assert_equal(logits_and_grads(model(family, window, layers, kernel), form, tuple(rows)), oracle, KERNELS[kernel])


@pytest.mark.parametrize(("family", "layers"), PATTERNS)
def test_control_neighbours_full_and_other_patterns_diverge(family, layers):
    """In the logits from the first query on that they give another key, and in the gradients."""
    logits, grads = definition(family, W, layers)
    others = [(other, layers) for other in (W - 1, W + 1, None)]
    others += [(W, pattern) for of, pattern in PATTERNS if of == family and pattern != layers]
    for other, pattern in others:
        theirs, their_grads = definition(family, other, pattern)
        error = (theirs - logits)[:, : ROWS[0]].abs().amax(dim=(0, 2))
        first = min(other or W, W)
        assert error[:first].max() < 1e-10, "within the window they are the same model"
        assert error[first:].max() > 1e-3, (other, pattern)
        assert (their_grads - grads).abs().max() > 1e-3, (other, pattern)


@pytest.mark.parametrize("kernel", ["eager", varlen.TORCH_VARLEN])  # sdpa takes another kernel where there is a mask
@pytest.mark.parametrize(("family", "layers"), PATTERNS)
def test_window_of_the_length_is_dense_bit_for_bit(family, layers, kernel):
    models = model(family, max(ROWS), layers, kernel), model(family, None, attn=kernel)
    found, dense = (logits_and_grads(built, one_by_one, ROWS) for built in models)
    for ours, theirs in zip(found, dense, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("family", "layers"), PATTERNS)
def test_rows_told_once_are_those_found_in_every_layer(family, layers, monkeypatch):
    built = model(family, W, layers, varlen.TORCH_VARLEN)
    found = logits_and_grads(built, packed, ROWS)
    monkeypatch.setattr("transformers.modeling_flash_attention_utils.prepare_fa_kwargs_from_position_ids", None)
    for ours, theirs in zip(logits_and_grads(built, bounded, ROWS), found, strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(TypeError):  # not told, it looks
        logits_and_grads(built, packed, ROWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "layers"), PATTERNS)
def test_within_twice_eagers_own_error(family, layers, dtype):
    oracle = definition(family, W, layers)
    for form in (packed, padded):
        theirs = logits_and_grads(model(family, W, layers, "eager", dtype), form, ROWS)
        for kernel in ("sdpa", varlen.TORCH_VARLEN):
            ours = logits_and_grads(model(family, W, layers, kernel, dtype), form, ROWS)
            for name, o, e, k in zip(("logits", "gradients"), oracle, theirs, ours, strict=True):
                assert (k - o).norm() <= 2 * (e - o).norm(), (kernel, form, name)
