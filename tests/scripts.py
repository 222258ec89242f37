# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/ as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(path: str) -> ModuleType:
    """A script by its path below examples/. What it imports from there is forgotten: two folders have a plot.py."""
    file = EXAMPLES / path
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    before, folders = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = folders
        for name in {script.stem for script in EXAMPLES.glob("*/*.py")} & (sys.modules.keys() - before):
            del sys.modules[name]
    return module
