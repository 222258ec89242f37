# SPDX-License-Identifier: Apache-2.0
"""Runs that several tests read."""

from pathlib import Path

import pytest
import runs


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def sft(work, checkpoint, data) -> runs.Run:
    """An unbroken conversion of the SA checkpoint."""
    return runs.run(work, "sft", runs.sft(checkpoint, data, work / "sft"))


@pytest.fixture(scope="session")
def merged(sft, work) -> Path:
    """The converted checkpoint as verl's merger makes it of the shards."""
    return runs.merge(work, "merged", work / "sft" / "global_step_6")


@pytest.fixture(scope="session")
def rl(work, checkpoint, data) -> runs.Run:
    """An unbroken RL run from the unconverted SA checkpoint, whose rollouts are dumped, and read as it goes."""
    dump = f"trainer.rollout_data_dir={work / 'rollouts'}"
    need = [f"swarr.need.model={checkpoint}", "swarr.need.every=3", "swarr.need.threads=1"]
    return runs.run(work, "rl", runs.rl(checkpoint, data, work / "rl", *runs.REPEATABLE, runs.GUARD, dump, *need))
