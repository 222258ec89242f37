# SPDX-License-Identifier: Apache-2.0
"""Context need: what a model loses on each token of a response when it is shown the last W tokens before it alone.

The truncated context is encoded as a text of its own, so that nothing older reaches the token through deeper layers, as
it does in a model of sliding layers. The probe model is one of full attention.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel


def nll(model: PreTrainedModel, rows: Tensor, scored: int) -> Tensor:
    """Negative log-likelihood of the last tokens of each row, given the row before them; nats.

    Args:
        model: a causal LM; its dtype and device.
        rows: token ids, [rows, length], none of them padding.
        scored: tokens of each row, fewer than it has.

    Returns:
        [rows, scored], float32, or float64 of a model of float64.
    """
    with torch.inference_mode():
        logits = model(rows[:, :-1], logits_to_keep=scored, use_cache=False).logits
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits.flatten(0, 1), rows[:, -scored:].flatten(), reduction="none").view(-1, scored)


def context_need(
    model: PreTrainedModel, tokens: Tensor, prompt: int, window: int, stride: int = 1, rows: int = 64
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each token of a response with all of its context, and with the last of it.

    Tokens are scored `stride` at a time: the last of them sees `window` tokens, the first `window - stride + 1`. That
    costs `window / stride` passes over the response. A token with no more context than that sees all of it.

    Args:
        model: see `nll`.
        tokens: prompt and response, ids, [length].
        prompt: tokens of the prompt, at least one.
        window: tokens of context, at least `stride`.
        stride: tokens scored together.
        rows: texts of `window` tokens in one forward.

    Returns:
        Whole and truncated, [length - prompt] each; what a token needs is the second less the first.

    Raises:
        ValueError: a size that does not fit.
    """
    length = len(tokens)
    if not 1 <= prompt < length:
        raise ValueError(f"prompt={prompt}: give at least 1 token, and fewer than the text's {length}")
    if not 1 <= stride <= window:
        raise ValueError(f"stride={stride}: give 1 to window={window}")
    whole = nll(model, tokens[None], length - prompt)[0]
    truncated = whole.clone()
    ends = _ends(prompt, length, window, stride)
    for first in range(0, len(ends), rows):
        chunk = ends[first : first + rows]
        texts = torch.stack([tokens[end - window - 1 : end] for end in chunk])
        for end, found in zip(chunk, nll(model, texts, stride), strict=True):
            begin = max(end - stride, prompt)
            truncated[begin - prompt : end - prompt] = found[stride - (end - begin) :]
    return whole, truncated


def _ends(prompt: int, length: int, window: int, stride: int) -> list[int]:
    """Where the groups of scored tokens end, last first: those whose last token has more context than `window`."""
    return [end for end in range(length, prompt, -stride) if end - 1 > window]
