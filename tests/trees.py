# SPDX-License-Identifier: Apache-2.0
"""verl's real config trees, composed with the plugin's options as verl's entry points do."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import verl  # noqa: F401  (loads the plugin, which puts the group on the search path)
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict
from verl.trainer import main_ppo

CONFIG_DIR = str(Path(main_ppo.__file__).parent / "config")
PRIMARY = {"sft": "sft_trainer_engine", "rl": "ppo_trainer"}


@cache
def tree(kind: str, *overrides: str) -> DictConfig:
    """The tree of `verl.trainer.sft_trainer` ("sft") or `verl.trainer.main_ppo` ("rl")."""
    with initialize_config_dir(config_dir=CONFIG_DIR, version_base=None):
        return compose(config_name=PRIMARY[kind], overrides=list(overrides))


def changed(config: DictConfig, *overrides: str) -> DictConfig:
    """A copy of a composed tree with `key=value` overrides, without composing again (a second each)."""
    config = deepcopy(config)
    with open_dict(config):
        for override in overrides:
            key, _, value = override.lstrip("+").partition("=")
            OmegaConf.update(config, key, OmegaConf.create(f"value: {value}")["value"] if value != "???" else "???")
    return config
