# SPDX-License-Identifier: Apache-2.0
"""Entry point of group `vllm.general_plugins`: called in every vLLM process."""


def register() -> None:
    """Register what vLLM needs."""
