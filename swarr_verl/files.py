# SPDX-License-Identifier: Apache-2.0
"""Text files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file as UTF-8; another of that name stands until this one is complete."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
