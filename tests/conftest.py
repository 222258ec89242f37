# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests: one tiny checkpoint and its data a session."""

import os
from pathlib import Path

# Two workers, and the processes that they start, share two cores. Before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import tiny
from hypothesis import settings

settings.register_profile("loaded", deadline=None)  # a busy machine is no failure
settings.load_profile("loaded")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A dense Qwen2 checkpoint."""
    return tiny.checkpoint(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """SFT and RL parquet files."""
    return tiny.data(tmp_path_factory.mktemp("data"))
