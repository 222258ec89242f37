# SPDX-License-Identifier: Apache-2.0
"""flash-attn's two functions over kernels that torch has itself, and the patch that gives them to transformers.

transformers (5.9.0, `modeling_flash_attention_utils.py`) has one path for all flash kernels: it cuts packed rows, takes
padding out, and is what verl patches for Ulysses (0.9.1, `models/transformers/monkey_patch.py:551`). Which functions
the path calls is up to `_lazy_imports`, which knows packages by name and has no registry: hence the patch.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from swarr_verl.patching import Patch
from swarr_verl.window import WindowError, visible

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch < 2.10
    varlen_attn = None

TORCH_VARLEN = "torch_varlen"
FLASH_4 = "flash_attention_4"


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    s_aux: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention of packed rows: flash-attn 2's function of this name, as far as a window needs it.

    On a GPU torch's own FlashAttention-2 kernels; on a CPU row by row, in any floating dtype.

    Args:
        q: (queries, heads, head_dim); bf16 or fp16 on a GPU.
        k, v: (keys, kv_heads, head_dim); kv_heads divides heads. A row's last query sees its last key.
        cu_seqlens_q, cu_seqlens_k: (rows + 1,), int32, where the rows begin and the last one ends.
        max_seqlen_q, max_seqlen_k: tokens in the longest row; an int, or a tensor of one.
        window_size: keys to the left and right of the query, -1 being all; a window of W is (W - 1, any).

    Returns:
        (queries, heads, head_dim).

    Raises:
        WindowError: something that torch's kernels do not have.
    """
    lacks = {
        "attention_dropout": dropout_p > 0,
        "softcap": softcap > 0,
        "attention sinks": s_aux is not None,
        "attention that is not causal": not causal,
    }
    if wanted := [name for name, needed in lacks.items() if needed]:
        raise WindowError(
            f"model.override_config.attn_implementation={TORCH_VARLEN} has no {', '.join(wanted)}: "
            "set +model.override_config.attn_implementation=sdpa (actor_rollout_ref.model... in RL)."
        )
    window = None if window_size[0] < 0 else window_size[0] + 1
    if not q.is_cuda:
        return _row_by_row(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, window)
    longest = int(max_seqlen_q), int(max_seqlen_k)
    return _torchs_kernel(q, k, v, (cu_seqlens_q, cu_seqlens_k), longest, softmax_scale, window)


def flash_attn_func(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """The same for rows of one length: q (batch, queries, heads, head_dim), k and v likewise; returns q's shape."""
    rows = torch.arange(q.shape[0] + 1, dtype=torch.int32, device=q.device)
    where = rows * q.shape[1], rows * k.shape[1], q.shape[1], k.shape[1]
    flat_q, flat_k, flat_v = (t.flatten(0, 1) for t in (q, k, v))
    return flash_attn_varlen_func(flat_q, flat_k, flat_v, *where, **options).view(q.shape)


def has_windows() -> bool:
    """Whether this torch has the kernels, with a window (2.10 or newer)."""
    return varlen_attn is not None and "window_size" in inspect.signature(varlen_attn).parameters


def _torchs_kernel(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, offsets: Any, longest: Any, scale: float | None, window: Any
) -> torch.Tensor:
    # torch 2.13 must be told of unequal head counts, earlier ones do not know the argument; the kernels are the same.
    gqa = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    left = -1 if window is None else window - 1
    return varlen_attn(q, k, v, *offsets, *longest, scale=scale, window_size=(left, 0), **gqa)


def _row_by_row(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_q: Any, cu_k: Any, scale: float | None, window: int | None
) -> torch.Tensor:
    rows = (t.split(cu.diff().tolist()) for t, cu in ((q, cu_q), (k, cu_k), (v, cu_k)))
    out = []
    for one in zip(*rows, strict=True):
        query, key, value = (t.transpose(0, 1)[None] for t in one)  # (1, heads, tokens, head_dim)
        mask = visible(query.shape[2], key.shape[2], window).to(q.device)
        row = scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=True)
        out.append(row[0].transpose(0, 1))
    return torch.cat(out)


def _takes_integers(varlen: Callable) -> Callable:
    """flash-attn-4's function, which takes the longest row's length as an int only, where transformers has a tensor.

    4.0.0b36 (cute/interface.py:1432) compares it with the window, and compiles a kernel for what comes out.
    """

    @functools.wraps(varlen)
    def call(*args: Any, max_seqlen_q: Any = None, max_seqlen_k: Any = None, **options: Any) -> Any:
        longest = {"max_seqlen_q": max_seqlen_q, "max_seqlen_k": max_seqlen_k}
        return varlen(*args, **{name: None if n is None else int(n) for name, n in longest.items()}, **options)

    return call


def _flash_functions(original: Callable) -> Callable:
    def _lazy_imports(implementation: str | None, *args: Any, **kwargs: Any) -> tuple:
        if implementation == TORCH_VARLEN:
            from transformers.modeling_flash_attention_utils import _pad_input, _unpad_input

            return flash_attn_func, flash_attn_varlen_func, None, _pad_input, _unpad_input
        dense, varlen, *rest = original(implementation, *args, **kwargs)
        return dense, _takes_integers(varlen) if implementation == FLASH_4 else varlen, *rest

    return _lazy_imports


FLASH_FUNCTIONS = Patch(
    name="flash_functions",
    requirement="transformers>=5.9,<5.10",
    target="transformers.modeling_flash_attention_utils:_lazy_imports",
    sha256="4762d5ad795e01680afa3f66ec5590c71935c923fd0c605a452bb9f81e36b35f",
    wrap=_flash_functions,
)
