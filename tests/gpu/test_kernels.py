# SPDX-License-Identifier: Apache-2.0
"""flash_attention_2 under the window, packed rows, forward and backward, on a GPU: at most twice eager's own error."""

import pytest
import tiny
import torch
from transformers.utils import is_flash_attn_2_available

from swarr_verl.families import apply_window
from swarr_verl.window import WindowSpec

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.skipif(not is_flash_attn_2_available(), reason="flash-attn is not installed"),
]
LENGTHS, WINDOW = (300, 7, 205), 64


def model(family: str, window: int | None, attn: str, dtype: torch.dtype):
    config = tiny.config(family)
    if window is not None:
        config = apply_window(config, WindowSpec(window))
    return tiny.model(config, attn=attn, dtype=dtype).cuda()


def logits_and_grads(built, packed: bool):
    """Of rows of LENGTHS tokens: in one packed row, or one after the other."""
    ids = torch.randint(3, 128, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1)).cuda()
    embeds = built.get_input_embeddings()(ids).detach().requires_grad_()
    if packed:
        positions = torch.cat([torch.arange(n) for n in LENGTHS])[None].cuda()
        logits = built(inputs_embeds=embeds, position_ids=positions, use_cache=False).logits
    else:
        rows = [built(inputs_embeds=row, use_cache=False).logits for row in embeds.split(LENGTHS, dim=1)]
        logits = torch.cat(rows, dim=1)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).to(logits)
    (grad,) = torch.autograd.grad((logits * weight).sum(), embeds)
    return logits.detach().double(), grad.double()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral"])
def test_flash_attention_2_packed(family, dtype):
    oracle = logits_and_grads(model(family, WINDOW, "eager", torch.float64), packed=False)
    eager = logits_and_grads(model(family, WINDOW, "eager", dtype), packed=False)
    flash = logits_and_grads(model(family, WINDOW, "flash_attention_2", dtype), packed=True)
    for name, o, e, f in zip(("logits", "gradients"), oracle, eager, flash, strict=True):
        assert (f - o).norm() <= 2 * (e - o).norm(), name
    for other in (WINDOW - 1, WINDOW + 1, None):  # controls: they must be further away than rounding
        control = logits_and_grads(model(family, other, "eager", torch.float64), packed=False)
        assert (control[0] - oracle[0]).norm() > 2 * (flash[0] - oracle[0]).norm(), other
