# SPDX-License-Identifier: Apache-2.0
"""What decoding under a window costs, by arithmetic: bytes kept and bytes read, from a config alone.

A decode step of a full batch reads the weights once and, for each sequence, the keys and values that its queries see;
the batches that a window makes room for are so large that multiplying takes its time, too, and so does the Python that
schedules them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

BLOCK = 16  # tokens of a KV-cache block, vLLM's default
MOST = 1024  # sequences of a decode step, unless asked otherwise
LOGITS = 14  # times that vLLM's sampler reads or writes a step's logits, 4 bytes each: by profile, examples/rollout


def _itemsize(hf_config: PretrainedConfig) -> int:
    return hf_config.dtype.itemsize if hf_config.dtype is not None else 2


def kv_bytes_per_token(hf_config: PretrainedConfig) -> int:
    """Bytes of keys and values of one token in one layer, in the checkpoint's dtype."""
    head_dim = getattr(hf_config, "head_dim", None) or hf_config.hidden_size // hf_config.num_attention_heads
    heads = getattr(hf_config, "num_key_value_heads", None) or hf_config.num_attention_heads
    return 2 * heads * head_dim * _itemsize(hf_config)


def kept_tokens(length: int, window: int | None) -> int:
    """Tokens whose keys and values one layer keeps for a sequence while it decodes, in whole blocks.

    The window's W - 1 older tokens may begin anywhere in their first block, hence one block more.

    >>> kept_tokens(100, None), kept_tokens(100, 33)
    (112, 48)
    """
    whole = -(-length // BLOCK) * BLOCK
    return whole if window is None else min(whole, (-(-(window - 1) // BLOCK) + 1) * BLOCK)


def kept_bytes(token: int, windows: Sequence[int | None], length: int) -> int:
    """Bytes of KV cache that a sequence of `length` tokens keeps in layers of these windows, `token` bytes each."""
    return token * sum(kept_tokens(length, window) for window in windows)


@dataclass(frozen=True)
class Cost:
    """Bytes of one model.

    Args:
        weights: bytes of all parameters.
        read: bytes of those that a decode step reads. An input embedding of its own is looked up, not read; all
            experts of an MoE are counted, as a large batch asks them all.
        products: parameters that a token is multiplied with; of an MoE's experts, the share that it is sent to.
        token: bytes of keys and values of one token in one layer.
        windows: of each layer, tokens; None is full attention.
        vocabulary: logits of a token.
    """

    weights: int
    read: int
    products: int
    token: int
    windows: tuple[int | None, ...]
    vocabulary: int

    @classmethod
    def of(cls, hf_config: PretrainedConfig, windows: list[int | None]) -> Cost:
        """Count on the meta device: no memory is taken, no weight is read."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(hf_config)
        itemsize = _itemsize(hf_config)
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        experts = sum(size for name, size in sizes.items() if ".experts." in name)
        looked_up = 0 if hf_config.tie_word_embeddings else model.get_input_embeddings().weight.numel()
        read = sum(sizes.values()) - looked_up
        idle = experts - experts * hf_config.num_experts_per_tok // hf_config.num_experts if experts else 0
        token = kv_bytes_per_token(hf_config)
        whole, vocabulary = (read + looked_up) * itemsize, hf_config.vocab_size
        return cls(whole, read * itemsize, read - idle, token, tuple(windows), vocabulary)

    def kept(self, depth: int) -> int:
        """Bytes of KV cache that a sequence of `depth` tokens keeps, in whole blocks."""
        return kept_bytes(self.token, self.windows, depth)

    def sequences(self, depth: int, memory: float) -> int:
        """How many sequences of `depth` tokens fit beside the weights into `memory` bytes."""
        return max(0, int((memory - self.weights) // self.kept(depth)))

    def step(self, depth: int, sequences: int) -> int:
        """Bytes that a decode step of so many sequences of `depth` tokens reads."""
        seen = sum(depth if window is None else min(depth, window) for window in self.windows)
        return self.read + sequences * self.token * seen

    def seconds(self, depth: int, sequences: int, bandwidth: float, flops: float, host: float) -> float:
        """What a decode step takes: reading and sampling at `bandwidth` bytes a second, products at `flops` a second.

        They add up: the kernels that read the cache and those that multiply run one after the other, and in products
        of some hundred tokens reading hides little. Beside them, vLLM's Python takes `host` seconds for each sequence;
        the slower of the two sets the pace. How far it is off: examples/rollout.
        """
        sampled = LOGITS * 4 * sequences * self.vocabulary
        device = (self.step(depth, sequences) + sampled) / bandwidth + 2 * sequences * self.products / flops
        return max(device, sequences * host)
