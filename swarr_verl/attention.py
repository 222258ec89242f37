# SPDX-License-Identifier: Apache-2.0
"""Which kernel computes attention under the window, and the one that needs no package: torch's own FlashAttention-2.

Four of the five are transformers' own (5.9.0): `flash_attention_4` and `flash_attention_2` share one path, which cuts
packed rows and takes padding out (`modeling_flash_attention_utils.py:_flash_attention_forward`) and which verl patches
for Ulysses (0.9.1, `models/transformers/monkey_patch.py:551`); `sdpa` and `eager` multiply by a mask of T x T.
`torch_varlen`, registered here, is that same path over `torch.nn.attention.varlen`. Its name must not contain
"flash": transformers would look for a package of that name (`modeling_utils.py:1983`).
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import get_target_dtype
from transformers.masking_utils import flash_attention_mask
from transformers.modeling_flash_attention_utils import (
    _is_packed_sequence,
    _pad_input,
    _unpad_input,
    _upad_input,
    fa_peft_integration_check,
    prepare_fa_kwargs_from_position_ids,
)
from transformers.utils import is_flash_attn_2_available, is_flash_attn_4_available

from swarr_verl.window import WindowError

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch < 2.10
    varlen_attn = None

TORCH_VARLEN = "torch_varlen"
REFERENCES = ("sdpa", "eager")
NEEDS = {  # every kernel with a window, the fastest first
    "flash_attention_4": "flash-attn-4 is not usable here",
    "flash_attention_2": "flash-attn is not usable here: install it on a machine with a GPU",
    TORCH_VARLEN: "torch's own kernels are not usable here: they need torch >= 2.10 and a GPU of sm_80 or newer",
    **dict.fromkeys(REFERENCES, ""),
}
OLDEST = {"flash_attention_4": (9, 0), TORCH_VARLEN: (8, 0)}  # compute capability
ULYSSES = ("flash_attention_4", "flash_attention_2")  # the path that verl patches to gather each row again
# Right under a window, and the fastest (examples/kernels). But of the longest row's length, which transformers gives as
# a tensor, it makes an integer only if the window is shorter (4.0.0b36, cute/interface.py:1432), and fails otherwise.
FAULTY = {"flash_attention_4": "flash-attn-4 4.0.0b36 under transformers 5.9 fails on rows no longer than the window"}
KEY = "model.override_config.attn_implementation"
IN_RL = "(actor_rollout_ref.model... in RL)"


def available() -> list[str]:
    """The kernels that run here, the fastest first, faulty ones too; the references run everywhere. Opens the GPU."""
    sm = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
    return [name for name in NEEDS if _installed(name) and sm >= OLDEST.get(name, (0, 0))]


def choose(asked: str | None = None, sequence_parallel: int = 1) -> str:
    """The kernel to build a model with: the one asked for, or else the fastest that runs here. Opens the GPU.

    Args:
        asked: verl's `model.override_config.attn_implementation`; None is automatic. A GPU is never given a reference
            unasked: its mask of T x T would end a run at the first long row.
        sequence_parallel: verl's `ulysses_sequence_parallel_size`.

    Raises:
        WindowError: the kernel asked for has no window, does not run here or not under Ulysses; or none is left.
    """
    found = [name for name in available() if name not in FAULTY]
    fast = [name for name in found if name not in REFERENCES]
    if asked is None and torch.cuda.is_available() and not fast:
        needs = [need for name, need in NEEDS.items() if need and name not in FAULTY]
        raise WindowError(f"{KEY}: {'; '.join(needs)}. For short rows set +{KEY}=sdpa {IN_RL}.")
    kernel = asked or (fast[0] if fast else "sdpa")
    check(kernel, sequence_parallel)
    if kernel not in found:
        raise _not_usable(kernel)
    return kernel


@cache
def announce(kernel: str) -> None:
    """Say once in a process which kernel its models have."""
    print(f"[swarr] attention kernel: {kernel} (to choose another: +{KEY}=... {IN_RL})", flush=True)


def check(kernel: str, sequence_parallel: int = 1) -> None:
    """Refuse a kernel that has no window, is not installed, or does not work under Ulysses.

    Does not open the GPU: verl reads its config in processes whose devices are chosen later.

    Raises:
        WindowError: names the key and the remedy.
    """
    if kernel not in NEEDS:
        raise WindowError(f"{KEY}={kernel}: only {', '.join(NEEDS)} are known to honour the window.")
    if kernel in FAULTY:
        raise WindowError(
            f"{KEY}={kernel}: {FAULTY[kernel]}. Leave the key out, or set +{KEY}=flash_attention_2 {IN_RL}."
        )
    if not _installed(kernel):
        raise _not_usable(kernel)
    if sequence_parallel > 1 and kernel not in ULYSSES:
        raise WindowError(
            f"ulysses_sequence_parallel_size={sequence_parallel} with {KEY}={kernel}: each GPU would attend to its own "
            f"piece of a row only, as verl gathers rows for {' and '.join(ULYSSES)} alone. Install "
            "flash-attn, or set ulysses_sequence_parallel_size=1."
        )


def _installed(kernel: str) -> bool:
    if kernel == "flash_attention_4":
        return is_flash_attn_4_available()
    if kernel == "flash_attention_2":
        return is_flash_attn_2_available()
    return kernel in REFERENCES or (torch.cuda.is_available() and _torch_has_windows())


def _torch_has_windows() -> bool:
    return varlen_attn is not None and "window_size" in inspect.signature(varlen_attn).parameters


def _not_usable(kernel: str) -> WindowError:
    return WindowError(f"{KEY}={kernel}, but {NEEDS[kernel]}. Leave the key out, or set +{KEY}=sdpa {IN_RL}.")


def varlen_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    position_ids: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention under a window, cut at the boundaries of packed rows: transformers' `torch_varlen`.

    Where a row ends is found as `_flash_attention_forward` of transformers 5.9.0 finds it, by its own helpers: padding
    first, then `cu_seq_lens_*`, then positions that start again; otherwise each row of the batch is one.

    Args:
        query: (batch, heads, queries, head_dim); bf16 or fp16, or what PEFT made fp32 of them.
        key, value: (batch, kv_heads, keys, head_dim); kv_heads divides heads. The last query sees the last key.
        attention_mask: (batch, keys), true where there is a token; None if there is no padding.
        sliding_window: W keys, the query included; None is full causal attention.
        cu_seq_lens_q, cu_seq_lens_k: (rows + 1,), int32, offsets of packed rows.

    Returns:
        (batch, queries, heads, head_dim), zero where there is padding; and None.

    Raises:
        WindowError: something that torch's kernels do not have (dropout, softcap, sinks, no causality, a 4-D mask).
    """
    _refuse_what_torch_lacks(module, attention_mask, kwargs)
    dtype = get_target_dtype(query, module)
    q, k, v = fa_peft_integration_check(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), dtype)
    batch, queries, keys = q.shape[0], q.shape[1], k.shape[1]
    rows: Any = (cu_seq_lens_q, cu_seq_lens_k), (max_length_q, max_length_k)
    if attention_mask is not None:
        q, k, v, indices, *rows = _upad_input(q, k, v, attention_mask, queries, _unpad_input)
        return _pad_input(_attend(q, k, v, rows, scaling, sliding_window), indices, batch, queries), None
    if any(given is None for pair in rows for given in pair):
        if _is_packed_sequence(position_ids, batch):
            rows = prepare_fa_kwargs_from_position_ids(position_ids)
        else:
            offsets = torch.arange(batch + 1, dtype=torch.int32, device=q.device)
            rows = (offsets * queries, offsets * keys), (queries, keys)
    out = _attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), rows, scaling, sliding_window)
    return out.view(batch, queries, *out.shape[1:]), None


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: Any, scale: float | None, window: int | None
) -> torch.Tensor:
    """`varlen_attn` on (tokens, heads, head_dim). Its pair counts the keys besides the query, -1 being all."""
    offsets, longest = rows
    # torch 2.13 must be told of unequal head counts, earlier ones do not know the argument; the kernels are the same.
    gqa = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    left = -1 if window is None else window - 1
    return varlen_attn(q, k, v, *offsets, *map(int, longest), scale=scale, window_size=(left, 0), **gqa)


def _refuse_what_torch_lacks(module: nn.Module, attention_mask: torch.Tensor | None, kwargs: dict[str, Any]) -> None:
    causal = kwargs.get("is_causal")
    lacks = {
        "attention_dropout": kwargs.get("dropout", 0.0) > 0,
        "softcap": kwargs.get("softcap") is not None,
        "attention sinks": kwargs.get("s_aux") is not None,
        "attention that is not causal": not (module.is_causal if causal is None else causal),
        "a mask that is not (batch, keys)": attention_mask is not None and attention_mask.dim() != 2,
    }
    if wanted := [name for name, needed in lacks.items() if needed]:
        raise WindowError(f"{KEY}={TORCH_VARLEN} has no {', '.join(wanted)}: set +{KEY}=sdpa {IN_RL}.")


AttentionInterface.register(TORCH_VARLEN, varlen_attention)
AttentionMaskInterface.register(TORCH_VARLEN, flash_attention_mask)
