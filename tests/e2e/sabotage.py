# SPDX-License-Identifier: Apache-2.0
"""Faults, loaded into every verl process by VERL_USE_EXTERNAL_MODULES=sabotage.

SABOTAGE=engine gives vLLM a window of W - 1. SABOTAGE=silent does so too, and blinds the comparison of the two
sides, so that the second guard must find it. SABOTAGE=rollout lets every other request fail. SABOTAGE=hang lets an SFT
run stand still with its first checkpoint, so that whoever kills it cannot come too late.
"""

import itertools
import os
import time

from swarr_verl import families, verify

_window_keys = families.window_keys


def _one_less(hf_config):
    keys = _window_keys(hf_config)
    return {**keys, "sliding_window": keys["sliding_window"] - 1}


def _fail_every_other() -> None:
    from swarr_verl.rollout_engine import RolloutEngine

    generate, count = RolloutEngine.generate, itertools.count()

    def failing(self, **kwargs):
        if next(count) % 2:
            raise RuntimeError("[sabotage] the engine is dead")
        return generate(self, **kwargs)

    RolloutEngine.generate = failing


def _hang_after_saving() -> None:
    from swarr_verl.platforms import cpu

    cpu.activate()  # verl loads external modules before plugins, and looks for its platform once
    from verl.utils.checkpoint.checkpoint_handler import CheckpointHandler

    save = CheckpointHandler.save_checkpoint

    def hanging(self, step):
        save(self, step)
        time.sleep(3600)

    CheckpointHandler.save_checkpoint = hanging


if os.environ["SABOTAGE"] in ("engine", "silent"):
    families.window_keys = _one_less
if os.environ["SABOTAGE"] == "silent":
    verify.compare = lambda trainer, engine: "[sabotage] sides not compared"
if os.environ["SABOTAGE"] == "rollout":
    _fail_every_other()
if os.environ["SABOTAGE"] == "hang":
    _hang_after_saving()
