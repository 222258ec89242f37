# SPDX-License-Identifier: Apache-2.0
"""Docstring examples run; README's commands and knobs exist."""

import doctest
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import swarr_verl.flops
import swarr_verl.reward
import swarr_verl.verify
import swarr_verl.window
from swarr_verl.search_path import CONFIG_DIR

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", [swarr_verl.window, swarr_verl.flops, swarr_verl.verify, swarr_verl.reward])
def test_docstring_examples(module):
    assert doctest.testmod(module).failed == 0


def test_readme_lists_every_knob_and_names_files_that_exist():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 200
    for knob in OmegaConf.load(CONFIG_DIR / "swarr" / "base.yaml").swarr:
        assert f"`swarr.{knob}`" in readme
    for name in re.findall(r"\b(?:examples|tests|patches|hydra_configs|swarr_verl)/[\w./-]+\w", readme):
        assert (ROOT / name).exists(), name


def test_modules_stay_small():
    for path in (ROOT / "swarr_verl").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
