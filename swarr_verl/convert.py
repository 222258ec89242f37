# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl convert SRC DST --window W`: a checkpoint under a window, its weights linked, not copied.

What comes out is an ordinary checkpoint: transformers loads it with the window and without this plugin. Training it is
stage 1 (`+swarr=sft`), which does the same to the config in memory; this is for serving, evaluating and inspecting, and
for windows that narrow from one training to the next: here a checkpoint's own window may be wider than the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from transformers import AutoConfig

from swarr_verl.families import apply_window, config_windows, window_keys
from swarr_verl.window import WindowError, WindowSpec, describe

WEIGHTS = (".safetensors", ".bin")


def convert(source: str, target: Path, spec: WindowSpec) -> None:
    """Write `target` whole, or not at all.

    Args:
        source: folder of a checkpoint, or its name on the hub.
        target: folder to make; must not exist.
        spec: the window.

    Raises:
        WindowError: `target` exists, `source` has no weights, or the window does not fit the checkpoint.
    """
    if target.exists():
        raise WindowError(f"{target} exists. Choose a DST that does not, or remove it.")
    folder = _local(source)
    config = apply_window(AutoConfig.from_pretrained(folder), spec, narrow=True)
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != "config.json"]
    if not any(file.suffix in WEIGHTS for file in files):
        raise WindowError(f"{source} holds no weights ({' or '.join(WEIGHTS)}). Give a Hugging Face checkpoint as SRC.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        for file in files:
            (_link if file.suffix in WEIGHTS else shutil.copyfile)(file.resolve(), part / file.name)
        config.save_pretrained(part)
        assert config_windows(AutoConfig.from_pretrained(part)) == spec.windows(config.num_hidden_layers)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _local(source: str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]))


def _link(file: Path, link: Path) -> None:
    """A hard link; a symbolic one across file systems."""
    try:
        os.link(file, link)
    except OSError:
        link.symlink_to(file)


def report(target: Path) -> str:
    """What was made, and how vLLM is told where it needs telling."""
    config = AutoConfig.from_pretrained(target)
    lines = [f"{target}: {config.model_type}, window {describe(config_windows(config))}"]
    if architectures := window_keys(config).get("architectures"):
        overrides = json.dumps({"architectures": architectures})
        lines.append(f"vLLM runs this hybrid with this plugin only: vllm serve {target} --hf-overrides '{overrides}'")
    return "\n".join(lines)
