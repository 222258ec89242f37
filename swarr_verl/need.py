# SPDX-License-Identifier: Apache-2.0
"""Context need: what a model loses on each token of a response when it is shown the last W tokens before it alone.

The truncated context is encoded as a text of its own, so that nothing older reaches the token through deeper layers, as
it does in a model of sliding layers. The probe model is one of full attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

Text = tuple[Tensor, int]  # token ids of prompt and response, [length], and how many of them are the prompt's
BATCH = 4096  # tokens of a forward, padding included: their logits are 2.5 GB of float32 for a vocabulary of 152k


def load(path: str, device: str) -> PreTrainedModel:
    """A probe model: of bfloat16 on a GPU, of float32 on a CPU."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()


def nll(model: PreTrainedModel, texts: Sequence[Tensor], scored: Sequence[int], batch: int = BATCH) -> list[Tensor]:
    """Negative log-likelihood of the last tokens of each text, given the text before them; nats.

    Args:
        model: a causal LM; its dtype and device.
        texts: token ids, [length] each.
        scored: tokens of each text, fewer than it has.
        batch: tokens that are read together, padding included; a longer text is read alone.

    Returns:
        [scored] each, float32, or float64 of a model of float64.
    """
    found: list[Tensor] = []
    for few in _batches([len(text) for text in texts], batch):
        found += _nll(model, texts[few], scored[few])
    return found


def _batches(lengths: list[int], batch: int) -> Iterator[slice]:
    """Neighbours that are read together.

    >>> list(_batches([3, 1, 4, 9], 8))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    first = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - first) * max(lengths[first : end + 1]) > batch:
            yield slice(first, end)
            first = end


def _nll(model: PreTrainedModel, texts: Sequence[Tensor], scored: Sequence[int]) -> list[Tensor]:
    """Of one batch, the shorter texts padded on the left."""
    kept, lengths = max(scored), [len(text) for text in texts]
    rows = torch.zeros(len(texts), max(lengths), dtype=torch.long, device=model.device)
    for row, text in zip(rows, texts, strict=True):
        row[len(row) - len(text) :] = text
    places = {}
    if min(lengths) < max(lengths):
        padding = max(lengths) - torch.tensor(lengths, device=model.device)[:, None]
        place = torch.arange(max(lengths) - 1, device=model.device)[None] - padding
        places = {"attention_mask": (place >= 0).long(), "position_ids": place.clamp(min=0)}
    with torch.inference_mode():
        logits = model(rows[:, :-1], **places, logits_to_keep=kept, use_cache=False).logits
    logits = logits if logits.dtype == torch.float64 else logits.float()
    found = cross_entropy(logits.flatten(0, 1), rows[:, -kept:].flatten(), reduction="none").view(-1, kept)
    return [row[kept - count :] for row, count in zip(found, scored, strict=True)]


def context_need(
    model: PreTrainedModel, texts: Sequence[Text], window: int, stride: int = 1, batch: int = BATCH
) -> list[tuple[Tensor, Tensor]]:
    """Negative log-likelihood of each token of a response with all of its context, and with the last of it.

    Tokens are scored `stride` at a time: the last of them sees `window` tokens, the first `window - stride + 1`. That
    costs `window / stride` passes over the response. A token with no more context than that sees all of it.

    Args:
        model, batch: see `nll`.
        texts: prompts with their responses.
        window: tokens of context, at least `stride`.
        stride: tokens scored together.

    Returns:
        Whole and truncated, [length - prompt] each; what a token needs is the second less the first.

    Raises:
        ValueError: a size that does not fit.
    """
    for tokens, prompt in texts:
        if not 1 <= prompt < len(tokens):
            raise ValueError(f"prompt={prompt}: give at least 1 token, and fewer than the text's {len(tokens)}")
    if not 1 <= stride <= window:
        raise ValueError(f"stride={stride}: give 1 to window={window}")
    whole = nll(model, [tokens for tokens, _ in texts], [len(tokens) - prompt for tokens, prompt in texts], batch)
    truncated = [one.clone() for one in whole]
    groups = [
        (index, end)
        for index, (tokens, prompt) in enumerate(texts)
        for end in group_ends(prompt, len(tokens), window, stride)
    ]
    seen = [texts[index][0][end - window - 1 : end] for index, end in groups]
    for (index, end), found in zip(groups, nll(model, seen, [stride] * len(seen), batch), strict=True):
        prompt = texts[index][1]
        begin = max(end - stride, prompt)
        truncated[index][begin - prompt : end - prompt] = found[stride - (end - begin) :]
    return list(zip(whole, truncated, strict=True))


def group_ends(prompt: int, length: int, window: int, stride: int) -> list[int]:
    """Where the groups of scored tokens end, last first: those whose last token has more context than `window`."""
    return [end for end in range(length, prompt, -stride) if end - 1 > window]
