# SPDX-License-Identifier: Apache-2.0
"""A deliberate off-by-one, loaded into every verl process by VERL_USE_EXTERNAL_MODULES=sabotage.

SABOTAGE=engine gives vLLM a window of W - 1. SABOTAGE=silent does so too, and blinds the comparison of the two
sides, so that the second guard must find it.
"""

import os

from swarr_verl import families, verify

_window_keys = families.window_keys


def _one_less(hf_config):
    keys = _window_keys(hf_config)
    return {**keys, "sliding_window": keys["sliding_window"] - 1}


families.window_keys = _one_less
if os.environ["SABOTAGE"] == "silent":
    verify.compare = lambda trainer, engine: "[sabotage] sides not compared"
