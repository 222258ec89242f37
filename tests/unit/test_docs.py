# SPDX-License-Identifier: Apache-2.0
"""Docstring examples run; README's commands and knobs exist."""

import doctest
import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from scripts import load

import swarr_verl.advice
import swarr_verl.flops
import swarr_verl.inspection
import swarr_verl.lengths
import swarr_verl.mismatch
import swarr_verl.overlap
import swarr_verl.prompts
import swarr_verl.reward
import swarr_verl.verify
import swarr_verl.window
from swarr_verl.search_path import CONFIG_DIR
from swarr_verl.window import visible

ROOT = Path(__file__).parents[2]
WINDOW = ROOT / "examples" / "window"

MODULES = [swarr_verl.window, swarr_verl.flops, swarr_verl.inspection, swarr_verl.verify, swarr_verl.reward]
MODULES += [swarr_verl.lengths, swarr_verl.overlap, swarr_verl.prompts, swarr_verl.advice, swarr_verl.mismatch]


@pytest.mark.parametrize("module", MODULES)
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


def test_the_mask_that_is_drawn():
    rows = (" ".join(".#"[seen] for seen in row) for row in visible(8, 8, 3))
    lines = [f"query {query}  {row}" for query, row in enumerate(rows)]
    assert "\n".join(lines) in (WINDOW / "README.md").read_text()


def test_the_table_of_families_is_what_the_parity_tests_found():
    page = load("window/families.py")
    table = page.table(json.loads((WINDOW / "families.json").read_text()))
    assert page.BEGIN + table + page.END in (WINDOW / "README.md").read_text()
