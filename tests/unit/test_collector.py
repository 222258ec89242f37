# SPDX-License-Identifier: Apache-2.0
"""The plugin's hold on Python's collector: in the processes of vLLM's engine, and nowhere else."""

import gc
import inspect
import multiprocessing

import pytest

from swarr_verl.vllm_plugin import RARELY, collect_rarely


def thresholds(answer) -> None:
    collect_rarely()
    answer.put(gc.get_threshold())


@pytest.mark.parametrize("name", ["EngineCore", "EngineCore_DP1", "VllmWorker-0", "SpawnProcess-1"])
def test_full_collections_become_rare_in_the_engine_alone(name):
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    process = spawn.Process(target=thresholds, args=(answer,), name=name)
    process.start()
    found = answer.get(timeout=60)
    process.join(timeout=60)
    young, middle, old = gc.get_threshold()
    assert found == (young, middle, old if name == "SpawnProcess-1" else RARELY)
    assert old < RARELY


def test_vllm_gives_those_names():
    utils = pytest.importorskip("vllm.v1.engine.utils", reason="vLLM is not installed")
    from vllm.v1.executor import multiproc_executor

    assert '"EngineCore"' in inspect.getsource(utils) and 'f"EngineCore_DP{' in inspect.getsource(utils)
    assert 'name=f"VllmWorker-{' in inspect.getsource(multiproc_executor)
