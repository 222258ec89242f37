# SPDX-License-Identifier: Apache-2.0
"""Checks on the driver of a second checkpoint that reads what the trained model writes: a teacher, a probe."""

from __future__ import annotations

from verl.workers.config import HFModelConfig

from swarr_verl.families import FAMILIES, config_windows
from swarr_verl.preflight import PreflightError
from swarr_verl.window import describe


def check_companion(path: str, key: str, longest: int, student: HFModelConfig) -> None:
    """Check that a checkpoint is one of full attention and has the student's tokens.

    Args:
        path: of the checkpoint.
        key: Hydra key that names it.
        longest: tokens of the longest sequence that it will read.
        student: the model that writes, built.

    Raises:
        PreflightError: names the Hydra key and the remedy.
    """
    model = _read(path, key)
    _check_window(model, longest, key)
    _check_tokens(model.tokenizer.get_vocab(), student.tokenizer.get_vocab(), key)


def _read(path: str, key: str) -> HFModelConfig:
    """Read the checkpoint as its process will."""
    try:
        return HFModelConfig(path=path)
    except (OSError, ValueError) as error:
        raise PreflightError(
            f"{key}={path} cannot be read: give a Hugging Face checkpoint with its tokenizer. {error}"
        ) from error


def _check_window(model: HFModelConfig, longest: int, key: str) -> None:
    """A window that no sequence outgrows is none; what vLLM makes of other families' configs is not known here."""
    if model.hf_config.model_type not in FAMILIES:
        return
    windows = config_windows(model.hf_config)
    if any(window is not None and window < longest for window in windows):
        raise PreflightError(
            f"{key}={model.path}: it has a window itself, {describe(windows)}. Give the checkpoint from before the "
            "conversion, or another with full attention."
        )


def _check_tokens(its: dict[str, int], student: dict[str, int], key: str) -> None:
    """It gets the student's token ids: each must mean the same to it. It may know more."""
    other = [token for token, number in student.items() if its.get(token) != number]
    if other:
        raise PreflightError(
            f"{key}: {len(other)} of the student's {len(student)} tokens have another id in its tokenizer, or none, "
            f"e.g. {other[0]!r}: {student[other[0]]} and {its.get(other[0])}. Token ids are handed over as they are. "
            "Choose a checkpoint with the student's tokenizer."
        )
