# SPDX-License-Identifier: Apache-2.0
"""Put the `swarr` config group on Hydra's search path. Imports nothing but Hydra, so that it cannot fail later.

A `file://` path computed from this file works in a wheel, an sdist and an editable install, from any folder;
`pkg://` does not (a wheel run from inside a checkout imports the checkout, which keeps the configs top-level).
"""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

_HERE = Path(__file__).resolve().parent
_CANDIDATES = (_HERE / "hydra_configs", _HERE.parent / "hydra_configs")  # wheel, checkout
CONFIG_DIR = next((path for path in _CANDIDATES if (path / "swarr").is_dir()), _CANDIDATES[0])


class SwarrSearchPath(SearchPathPlugin):
    """Appends CONFIG_DIR, so that `+swarr=...` resolves in verl's own entry points."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder once (Hydra >= 1.4 also finds this class through its entry point)."""
        path = f"file://{CONFIG_DIR}"
        if all(element.path != path for element in search_path.get_path()):
            search_path.append(provider="swarr_verl", path=path)
