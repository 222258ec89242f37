# SPDX-License-Identifier: Apache-2.0
"""Which kernel computes attention under the window.

Four of the five are transformers' own (5.9.0); `torch_varlen`, registered here, needs no package (varlen.py). It and
the two flash-attns share the path that cuts packed rows, takes padding out, and that verl patches for Ulysses; `sdpa`
and `eager` multiply by a mask of T x T. The name must not contain "flash": transformers would look for a package of
that name (`modeling_utils.py:1983`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.masking_utils import flash_attention_mask
from transformers.utils import is_flash_attn_2_available, is_flash_attn_4_available

from swarr_verl.patching import PatchError
from swarr_verl.varlen import FLASH_4, FLASH_FUNCTIONS, TORCH_VARLEN, has_windows
from swarr_verl.window import WindowError

REFERENCES = ("sdpa", "eager")
NEEDS = {  # every kernel with a window, the fastest first (examples/kernels)
    FLASH_4: "flash-attn-4 is not usable here: it needs transformers 5.9 and a GPU of sm_90 or newer",
    "flash_attention_2": "flash-attn is not usable here: install it on a machine with a GPU",
    TORCH_VARLEN: "torch's own kernels are not usable here: they need torch >= 2.10, transformers 5.9 and a GPU of "
    "sm_80 or newer",
    **dict.fromkeys(REFERENCES, ""),
}
OLDEST = {FLASH_4: (9, 0), TORCH_VARLEN: (8, 0)}  # compute capability
PATCHED = (FLASH_4, TORCH_VARLEN)  # they need FLASH_FUNCTIONS
PACKED = (FLASH_4, "flash_attention_2", TORCH_VARLEN)  # take packed rows by their bounds; verl gathers them for Ulysses
KEY = "model.override_config.attn_implementation"
IN_RL = "(actor_rollout_ref.model... in RL)"


def available() -> list[str]:
    """The kernels that run here, the fastest first; the references run everywhere. Opens the GPU."""
    gpu = torch.cuda.is_available()
    sm = torch.cuda.get_device_capability() if gpu else (0, 0)
    return [name for name in NEEDS if _installed(name) and (not gpu or sm >= OLDEST.get(name, (0, 0)))]


def choose(asked: str | None = None, sequence_parallel: int = 1) -> str:
    """The kernel to build a model with: the one asked for, or else the fastest that runs here. Opens the GPU.

    Args:
        asked: verl's `model.override_config.attn_implementation`; None is automatic. A GPU is never given a reference
            unasked: its mask of T x T would end a run at the first long row. A CPU gets sdpa, except under Ulysses.
        sequence_parallel: verl's `ulysses_sequence_parallel_size`.

    Raises:
        WindowError: the kernel asked for has no window, does not run here or not under Ulysses; or none is left.
    """
    found = available()
    if asked is None and not torch.cuda.is_available() and sequence_parallel == 1:
        asked = "sdpa"
    wanted = [asked] if asked else [name for name in found if name not in REFERENCES]
    if not wanted:
        raise WindowError(f"{KEY}: {'; '.join(filter(None, NEEDS.values()))}. For short rows set +{KEY}=sdpa {IN_RL}.")
    kernel = wanted[0]
    check(kernel, sequence_parallel)
    if kernel not in found:
        raise _not_usable(kernel)
    return kernel


def activate(kernel: str) -> None:
    """Make transformers able to run a kernel, before a model is built with it.

    Raises:
        PatchError: transformers is not the version whose path is known.
    """
    if kernel in PATCHED:
        FLASH_FUNCTIONS.apply()


def row_bounds(offsets: torch.Tensor) -> dict[str, Any]:
    """What a model takes for its flash kernels to know packed rows by: transformers' FlashAttentionKwargs.

    Args:
        offsets: (rows + 1,), integers: where each row begins, and the end.

    >>> row_bounds(torch.tensor([0, 5, 7]))["max_length_q"]
    5
    """
    bounds, longest = offsets.to(torch.int32), int(offsets.diff().max())
    return dict(cu_seq_lens_q=bounds, cu_seq_lens_k=bounds, max_length_q=longest, max_length_k=longest)


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
    if not _installed(kernel):
        raise _not_usable(kernel)
    if sequence_parallel > 1 and kernel not in PACKED:
        raise WindowError(
            f"ulysses_sequence_parallel_size={sequence_parallel} with {KEY}={kernel}: each GPU would attend to its own "
            f"piece of a row only, as verl gathers rows for {', '.join(PACKED)} alone. Choose one of these, or set "
            "ulysses_sequence_parallel_size=1."
        )


def _installed(kernel: str) -> bool:
    if kernel in PATCHED and not _transformers_fits():
        return False
    if kernel == FLASH_4:
        return is_flash_attn_4_available()
    if kernel == "flash_attention_2":
        return is_flash_attn_2_available()
    return kernel in REFERENCES or not torch.cuda.is_available() or has_windows()


@cache
def _transformers_fits() -> bool:
    try:
        FLASH_FUNCTIONS.check()
    except PatchError:
        return False
    return True


def _not_usable(kernel: str) -> WindowError:
    return WindowError(f"{KEY}={kernel}, but {NEEDS[kernel]}. Leave the key out, or set +{KEY}=sdpa {IN_RL}.")


AttentionInterface.register(TORCH_VARLEN, flash_attention_forward)
AttentionMaskInterface.register(TORCH_VARLEN, flash_attention_mask)
