# SPDX-License-Identifier: Apache-2.0
"""Other Python environments, made from this one without a download."""

import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def packages_without_plugin(folder: Path) -> Path:
    """A folder of links to all that is installed here, but for the plugin's own distribution."""
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "swarr_verl" not in path.name and "swarr-verl" not in path.name:
            (folder / path.name).symlink_to(path)
    return folder


def venv(folder: Path, *packages: Path) -> Path:
    """A new virtual environment that also sees other folders of packages; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in packages))
    return folder / "bin" / "python"


def fake_distribution(folder: Path, name: str, version: str, entry_points: str = "") -> None:
    """Metadata of a distribution that is not there: what a stale or a wrong install looks like."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
