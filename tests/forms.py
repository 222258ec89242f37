# SPDX-License-Identifier: Apache-2.0
"""Rows of tokens given to a model one by one, packed into one row, and padded to a batch; always on its device."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from swarr_verl.attention import row_bounds


def one_by_one(built, embeds, rows):
    """Logits (1, tokens, vocabulary) of embeddings (1, tokens, hidden), cut into rows of these lengths."""
    return torch.cat([built(inputs_embeds=row, use_cache=False).logits for row in embeds.split(rows, dim=1)], dim=1)


def packed(built, embeds, rows):
    """Likewise."""
    positions = torch.cat([torch.arange(n) for n in rows])[None].to(embeds.device)
    return built(inputs_embeds=embeds, position_ids=positions, use_cache=False).logits


def bounded(built, embeds, rows):
    """Likewise, packed, where the rows begin being told."""
    positions = torch.cat([torch.arange(n) for n in rows])[None].to(embeds.device)
    bounds = row_bounds(torch.tensor([0, *rows], device=embeds.device).cumsum(0))
    return built(inputs_embeds=embeds, position_ids=positions, use_cache=False, **bounds).logits


def padded(built, embeds, rows):
    """Likewise; on the left."""
    longest = max(rows)
    batch = torch.cat([pad(row, (0, 0, longest - row.shape[1], 0)) for row in embeds.split(rows, dim=1)])
    mask = (torch.arange(longest) >= longest - torch.tensor(rows)[:, None]).to(embeds.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = built(inputs_embeds=batch, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return logits[mask][None]


def logits_and_grads(built, form, rows):
    """Logits, and the gradient of a random projection of them to the embeddings; in fp64."""
    ids = torch.randint(3, 128, (1, sum(rows)), generator=torch.Generator().manual_seed(1)).to(built.device)
    embeds = built.get_input_embeddings()(ids).detach().requires_grad_()
    logits = form(built, embeds, rows)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (grad,) = torch.autograd.grad((logits * weight.to(logits)).sum(), embeds)
    return logits.detach().double(), grad.double()
