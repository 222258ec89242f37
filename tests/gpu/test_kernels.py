# SPDX-License-Identifier: Apache-2.0
"""Every kernel that runs on this GPU, under the window: at most twice as far from HF eager in fp64 as HF eager itself.

Rows many windows long, in one packed row and in a padded batch; unequal head counts; forward and backward.
"""

import functools

import pytest
import tiny
import torch
from forms import logits_and_grads, one_by_one, packed, padded

from swarr_verl import attention
from swarr_verl.families import apply_window
from swarr_verl.window import WindowSpec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
LENGTHS, WINDOW = (700, 7, 405), 64
KERNELS = [name for name in attention.available() if name != "eager"]
SHAPES = {  # family, head_dim, heads, kv_heads
    "qwen2-64": ("qwen2", 64, 14, 2),
    "qwen3-64": ("qwen3", 64, 4, 2),
    "mistral-64": ("mistral", 64, 4, 4),
    "qwen2-128": ("qwen2", 128, 8, 2),
    "qwen2-256": ("qwen2", 256, 4, 1),
}


def model(shape: str, window: int | None, attn: str, dtype: torch.dtype):
    family, head_dim, heads, kv_heads = SHAPES[shape]
    config = tiny.config(family, head_dim=head_dim, num_attention_heads=heads, num_key_value_heads=kv_heads)
    if window is not None:
        config = apply_window(config, WindowSpec(window))
    attention.activate(attn)
    return tiny.model(config, attn=attn, dtype=dtype).cuda()


@functools.cache
def eager(shape: str, window: int | None, dtype: torch.dtype):
    return logits_and_grads(model(shape, window, "eager", dtype), one_by_one, LENGTHS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", [packed, padded])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel(kernel, form, shape, dtype):
    built = model(shape, WINDOW, kernel, dtype)
    assert built.config._attn_implementation == kernel
    ours, theirs, oracle = (
        logits_and_grads(built, form, LENGTHS),
        eager(shape, WINDOW, dtype),
        eager(shape, WINDOW, torch.float64),
    )
    for name, k, e, o in zip(("logits", "gradients"), ours, theirs, oracle, strict=True):
        assert (k - o).norm() <= 2 * (e - o).norm(), name
    for other in (WINDOW - 1, WINDOW + 1, None):  # controls: they must be further away than rounding
        control = eager(shape, other, torch.float64)
        for k, o, c in zip(ours, oracle, control, strict=True):
            assert (c - o).norm() > 2 * (k - o).norm(), other


@pytest.mark.parametrize("kernel", KERNELS)
def test_control_a_neighbouring_window_of_the_same_kernel_fails(kernel):
    """The test above would see a kernel that is off by one, or (a window of the whole length) has none."""
    oracle, own = eager("qwen2-64", WINDOW, torch.float64), eager("qwen2-64", WINDOW, torch.bfloat16)
    for other in (WINDOW - 1, WINDOW + 1, max(LENGTHS)):
        off = logits_and_grads(model("qwen2-64", other, kernel, torch.bfloat16), packed, LENGTHS)
        for k, e, o in zip(off, own, oracle, strict=True):
            assert (k - o).norm() > 2 * (e - o).norm(), other


@pytest.mark.parametrize("form", [packed, padded])
@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_no_longer_than_the_window(kernel, form):
    """Where flash-attn-4 under transformers 5.9 fails without the plugin's patch."""
    ours, theirs, oracle = (
        logits_and_grads(model("qwen2-64", max(LENGTHS), kernel, torch.bfloat16), form, LENGTHS),
        eager("qwen2-64", None, torch.bfloat16),
        eager("qwen2-64", None, torch.float64),
    )
    for k, e, o in zip(ours, theirs, oracle, strict=True):
        assert (k - o).norm() <= 2 * (e - o).norm()


def test_the_automatic_choice_is_the_fastest():
    assert attention.choose() == KERNELS[0] not in attention.REFERENCES
