# SPDX-License-Identifier: Apache-2.0
"""Entry point of group `vllm.general_plugins`: called in every vLLM process, before a model is built.

vLLM lets an error in `register` through (vllm/plugins/__init__.py, load_general_plugins): it is loud.
"""

import os


def register() -> None:
    """On the CPU platform of verl, and for vLLM's CPU build alone: keep weights as loaded, for weight sync.

    A vLLM that serves outside verl keeps its packed weights.
    """
    if os.environ.get("VERL_PLATFORM", "").strip().lower() != "cpu":
        return
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from swarr_verl.platforms import cpu

        cpu.keep_plain_weights()
