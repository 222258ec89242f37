# SPDX-License-Identifier: Apache-2.0
"""Every diff in patches/ is complete, still applies, is not upstream yet, and its fault is still there."""

import importlib.util
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PATCHES = Path(__file__).parents[2] / "patches"
DIFFS = sorted(PATCHES.glob("*/*.patch"))
FIELDS = ("Subject", "Why", "Upstream", "Applies-to", "Remove-when")

each_diff = pytest.mark.parametrize("diff", DIFFS, ids=lambda diff: f"{diff.parent.name}/{diff.name[:4]}")


def header(diff: Path) -> dict[str, str]:
    head = diff.read_text().split("\ndiff --git ")[0]
    unfolded = re.sub(r"\n  +", " ", head.strip())
    return dict(line.split(": ", 1) for line in unfolded.splitlines())


def installed(diff: Path) -> Requirement:
    """The distribution that `diff` is for; skips where another version, or none, is installed."""
    requirement = Requirement(header(diff)["Applies-to"])
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed")
    assert requirement.specifier.contains(version), f"{requirement.name} is now {version}: redo or delete {diff}"
    return requirement


def git_apply(diff: Path, *options: str, root: Path) -> subprocess.CompletedProcess:
    """`git apply --check` on a copy, under `root`, of the installed files that `diff` touches."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in re.findall(r"^--- a/(\S+)", diff.read_text(), re.M):
        package, rest = name.split("/", 1)
        spec = importlib.util.find_spec(package)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(spec.submodule_search_locations[0]) / rest, root / name)
    command = ["git", "apply", "--check", "-p1", *options, str(diff)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_there_are_diffs():
    assert DIFFS


@each_diff
def test_header_is_complete(diff):
    fields = header(diff)
    assert tuple(fields) == FIELDS
    assert all(fields.values())


@each_diff
def test_folder_names_the_version(diff):
    requirement = Requirement(header(diff)["Applies-to"])
    assert f"{requirement.name.removesuffix('-cpu')}{requirement.specifier}".replace("==", "-") == diff.parent.name


@each_diff
def test_readme_lists_it(diff):
    assert f"({diff.parent.name}/{diff.name})" in (PATCHES / "README.md").read_text()


def test_readme_lists_nothing_else():
    links = re.findall(r"\(([\w.-]+/[\w.-]+\.patch)\)", (PATCHES / "README.md").read_text())
    assert sorted(links) == sorted(f"{diff.parent.name}/{diff.name}" for diff in DIFFS)


@each_diff
def test_applies_to_the_installed_version(diff, tmp_path):
    installed(diff)
    result = git_apply(diff, root=tmp_path)
    assert result.returncode == 0, result.stderr


@each_diff
def test_upstream_does_not_have_it(diff, tmp_path):
    installed(diff)
    assert git_apply(diff, "--reverse", root=tmp_path).returncode != 0, "upstream has it: delete the diff"
