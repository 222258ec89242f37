# SPDX-License-Identifier: Apache-2.0
"""transformers under the window against the definition, in fp64, and sdpa against eager.

Tolerance: an implementation may be at most twice as far from the fp64 oracle as eager is in the same dtype.
"""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swarr_verl.families import FAMILIES, apply_window
from swarr_verl.window import WindowSpec, visible

LENGTH = 96
HYBRIDS = [(family, layers) for family, it in FAMILIES.items() if it.has_hybrids for layers in ("full_every:2", (0,))]


def windowed(family: str, window: int | None, attn: str = "eager", dtype=torch.float64, layers="all"):
    """The family's dense weights in the model that `apply_window` asks for."""
    dense = tiny.model(tiny.config(family), attn=attn, dtype=dtype)
    if window is None:
        return dense
    config = apply_window(tiny.config(family), WindowSpec(window, layers))
    model = tiny.model(config, attn=attn, dtype=dtype)
    model.load_state_dict(dense.state_dict())
    return model


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(seed))


def run(model, ids, **kwargs):
    """Logits, and the gradient of a random projection of them to the embeddings."""
    embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeds, use_cache=False, **kwargs).logits
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (grad,) = torch.autograd.grad((logits * weight.to(logits.dtype)).sum(), embeds)
    return logits.detach().double(), grad.double()


def definition(family: str, ids: torch.Tensor, window: int, layers="all"):
    """The dense model in fp64 whose every layer gets the mask of `window.visible`, given explicitly."""
    dense = windowed(family, None)
    for layer, width in zip(dense.model.layers, WindowSpec(window, layers).windows(3), strict=True):
        mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1], dtype=torch.float64)
        mask.masked_fill_(~visible(ids.shape[1], ids.shape[1], width), torch.finfo(torch.float64).min)
        layer.register_forward_pre_hook(
            lambda _, args, kwargs, mask=mask: (args, {**kwargs, "attention_mask": mask}), with_kwargs=True
        )
    return run(dense, ids)


@pytest.mark.parametrize("window", [1, 5, 16, LENGTH - 1, LENGTH, LENGTH + 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_hf_eager_is_the_definition(family, window, record):
    record(family, "transformers", "all")
    ids = tokens(2, LENGTH)
    for ours, oracle in zip(run(windowed(family, window), ids), definition(family, ids, window), strict=True):
        torch.testing.assert_close(ours, oracle, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("family", "layers"), HYBRIDS)
def test_hf_hybrid_is_the_definition(family, layers, record):
    record(family, "transformers", layers)
    ids = tokens(2, LENGTH)
    found = run(windowed(family, 16, layers=layers), ids)
    for ours, oracle in zip(found, definition(family, ids, 16, layers), strict=True):
        torch.testing.assert_close(ours, oracle, atol=1e-10, rtol=1e-10)
    assert (run(windowed(family, 16), ids)[0] - found[0]).abs().max() > 1e-3, "control: all layers sliding"


@settings(max_examples=24, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.integers(1, 70), st.integers(1, 130))
def test_hf_eager_is_the_definition_over_shapes(family, window, length):
    ids = tokens(1, length, seed=length)
    ours, _ = run(windowed(family, window), ids)
    torch.testing.assert_close(ours, definition(family, ids, window)[0], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_control_neighbouring_windows_and_full_diverge(family):
    ids = tokens(1, LENGTH)
    at_w, _ = run(windowed(family, 16), ids)
    for other in (15, 17, None):
        error = (run(windowed(family, other), ids)[0] - at_w).abs().amax(dim=(0, 2))
        first = min(other or LENGTH, 16)  # the first position that loses a key
        assert error[:first].max() < 1e-10, "within the window they are the same model"
        assert error[first:].max() > 1e-3, f"window {other} must differ from 16"


@pytest.mark.parametrize("family", FAMILIES)
def test_window_of_the_length_is_dense_bit_for_bit(family):
    ids = tokens(2, LENGTH)
    for ours, dense in zip(run(windowed(family, LENGTH), ids), run(windowed(family, None), ids), strict=True):
        assert torch.equal(ours, dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_sdpa_within_twice_eagers_own_error(family, dtype):
    ids = tokens(2, LENGTH)
    oracle = run(windowed(family, 16), ids)
    eager = run(windowed(family, 16, dtype=dtype), ids)
    sdpa = run(windowed(family, 16, attn="sdpa", dtype=dtype), ids)
    for name, o, e, s in zip(("logits", "gradients"), oracle, eager, sdpa, strict=True):
        assert (s - o).abs().max() <= 2 * (e - o).abs().max(), name


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_are_separate_rows(family, attn, record):
    record(family, "transformers", "all")
    lengths = (40, 3, 53)
    ids = tokens(1, sum(lengths))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    model = windowed(family, 16, attn=attn)
    packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    rows = [model(input_ids=row, use_cache=False).logits for row in ids.split(lengths, dim=1)]
    atol = 1e-5 if attn == "eager" else 1e-10  # transformers' eager softmax is fp32 whatever the dtype
    torch.testing.assert_close(packed, torch.cat(rows, dim=1), atol=atol, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padded_rows_are_unpadded_rows(family, record):
    record(family, "transformers", "all")
    ids = tokens(2, LENGTH)
    mask = torch.ones_like(ids)
    mask[0, :30] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    model = windowed(family, 16, attn="sdpa")
    padded = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    alone = model(input_ids=ids[:1, 30:], use_cache=False).logits
    torch.testing.assert_close(padded[:1, 30:], alone, atol=1e-10, rtol=1e-10)
