# SPDX-License-Identifier: Apache-2.0
"""What users install: the wheel and the sdist, in a new environment, used through verl's own commands."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from sites import CHECKOUT, packages_without_plugin, venv

NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "outputs", "dist", "work")
CONFIGS = {path.name for path in (CHECKOUT / "hydra_configs/swarr").glob("*.yaml")}
MODULES = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "swarr_verl").rglob("*.py")}


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist of a clean copy of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(CHECKOUT, folder / "source", ignore=NOT_SOURCE)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder / "source", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def python(dist, tmp_path_factory) -> Path:
    """The interpreter of a new environment: the wheel, and everything else that is installed here."""
    folder = tmp_path_factory.mktemp("environment")
    python = venv(folder / "venv", packages_without_plugin(folder / "packages"))
    (wheel,) = dist.glob("*.whl")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    return python


def test_sdist_has_every_folder(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md"} | MODULES <= names
    assert {f"hydra_configs/swarr/{name}" for name in CONFIGS} <= names
    for folder in ("patches", "tests", "examples"):
        suffixes = (".py", ".sh", ".md", ".patch")
        files = [p.relative_to(CHECKOUT) for p in (CHECKOUT / folder).rglob("*") if p.suffix in suffixes]
        wanted = {p.as_posix() for p in files if "work" not in p.parts}
        assert wanted and wanted <= names


def test_wheel_has_the_package_and_its_configs_only(dist):
    (path,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(path).namelist())
    assert MODULES | {f"swarr_verl/hydra_configs/swarr/{name}" for name in CONFIGS} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"swarr_verl"}


def test_the_wheel_is_what_is_imported(python, tmp_path):
    names = "swarr_verl.plugin", "swarr_verl.search_path"
    code = f"import verl, sys; print(*[sys.modules[name].__file__ for name in {names}], sep=chr(10))"
    site = python.parents[1] / "lib"
    for path in run(python, "-c", code, cwd=tmp_path).splitlines()[-2:]:
        assert Path(path).is_relative_to(site), path


@pytest.mark.parametrize("inside", [False, True], ids=["elsewhere", "inside the checkout"])
@pytest.mark.parametrize("module, option", [("main_ppo", "grpo"), ("sft_trainer", "sft")])
def test_verls_commands_take_the_group(python, tmp_path, module, option, inside):
    """Inside a checkout Python imports the checkout, whose configs lie elsewhere than the wheel's."""
    command = [python, "-m", f"verl.trainer.{module}", "--cfg", "job", f"+swarr={option}", "swarr.window=96"]
    text = run(*command, cwd=CHECKOUT if inside else tmp_path)
    config = yaml.safe_load(text[re.search(r"^[a-z_]+:", text, re.MULTILINE).start() :])  # logs come first
    model = config["model"] if option == "sft" else config["actor_rollout_ref"]["model"]
    assert model["_target_"] == "swarr_verl.model.SwarrModelConfig"
    assert config["swarr"]["window"] == 96
    if option == "grpo":
        assert config["actor_rollout_ref"]["rollout"]["name"] == "swarr_vllm"
        assert config["reward"]["reward_manager"]["name"] == "swarr_math"


def test_the_doctor_is_content(python, tmp_path):
    assert "0 of " in run(python, "-m", "swarr_verl", "doctor", cwd=tmp_path).splitlines()[-1]
