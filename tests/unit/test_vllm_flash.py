# SPDX-License-Identifier: Apache-2.0
"""What chooses FlashAttention 3's kernel is the same in a captured step and in every other; without us it is not."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed")
from vllm.config import CUDAGraphMode
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends import flash_attn
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

from swarr_verl import vllm_plugin
from swarr_verl.vllm_flash import WindowFlashAttentionBackend, WindowMetadataBuilder

MAX, WINDOW = 256, 100
SHAPE = dict(block_size=16, num_kv_heads=2, head_size=64, dtype=torch.bfloat16)
WINDOWED, FULL = SlidingWindowSpec(**SHAPE, sliding_window=WINDOW), FullAttentionSpec(**SHAPE)


def step(longest: int) -> CommonAttentionMetadata:
    """Three sequences that decode, the longest of so many tokens."""
    starts, lengths = torch.arange(4, dtype=torch.int32), torch.tensor([longest, 7, 30], dtype=torch.int32)
    return CommonAttentionMetadata(
        query_start_loc=starts,
        query_start_loc_cpu=starts,
        seq_lens=lengths,
        num_reqs=3,
        num_actual_tokens=3,
        max_query_len=1,
        max_seq_len=longest,
        block_table_tensor=torch.zeros(3, 16, dtype=torch.int32),
        slot_mapping=torch.zeros(3, dtype=torch.int64),
    )


@pytest.fixture
def chosen(monkeypatch):
    """Build a captured step and a short one as on Hopper; return the longest length that each was laid out for."""
    seen = []

    def schedule(max_seqlen_k: int, **rest) -> torch.Tensor:
        seen.append(max_seqlen_k)
        return torch.zeros(8, dtype=torch.int32)

    def build(builder_class: type, spec) -> tuple[list[int], list[int]]:
        window = getattr(spec, "sliding_window", None)
        monkeypatch.setattr(flash_attn, "get_scheduler_metadata", schedule, raising=False)
        monkeypatch.setattr(flash_attn, "get_flash_attn_version", lambda *args, **kwargs: 3)
        monkeypatch.setattr(flash_attn, "_get_sliding_window_configs", lambda config: {window and (window - 1, 0)})
        model = SimpleNamespace(
            max_model_len=MAX, rswa_window=None, is_mm_prefix_lm=False, get_head_size=lambda: 64,
            get_num_attention_heads=lambda parallel: 14, get_num_kv_heads=lambda parallel: 2,
        )  # fmt: skip
        config = SimpleNamespace(
            model_config=model,
            parallel_config=SimpleNamespace(cp_kv_cache_interleave_size=1),
            cache_config=SimpleNamespace(cache_dtype="auto"),
            compilation_config=SimpleNamespace(
                cudagraph_mode=CUDAGraphMode.FULL_DECODE_ONLY, max_cudagraph_capture_size=8
            ),
            attention_config=SimpleNamespace(flash_attn_max_num_splits_for_cuda_graph=32),
            scheduler_config=SimpleNamespace(max_num_seqs=8, max_num_batched_tokens=64),
        )
        builder = builder_class(spec, ["layer"], config, torch.device("cpu"))
        kernels = [builder.build(0, step(longest)).max_seq_len for longest in (MAX, 40)]  # vLLM captures at MAX
        return seen, kernels

    return build


def test_a_window_is_laid_out_as_it_was_captured(chosen):
    assert chosen(WindowMetadataBuilder, WINDOWED) == ([MAX, MAX], [MAX, MAX])


def test_full_attention_is_left_alone(chosen):
    assert chosen(WindowMetadataBuilder, FULL) == ([MAX, 40], [MAX, 40])


def test_vllm_0004_lays_out_a_window_that_none_outgrows_for_another_kernel(chosen):
    """The fault of patches/vllm-0.28.0/0004: FlashAttention 3 takes its windowed kernel if W < max_seqlen_k."""
    captured, short = chosen(flash_attn.FlashAttentionMetadataBuilder, WINDOWED)[0]
    assert short <= WINDOW < captured


def test_vllm_takes_it_for_its_own():
    flash = AttentionBackendEnum.FLASH_ATTN
    vllm_plugin.register()
    assert flash.get_class() is WindowFlashAttentionBackend
    assert flash.get_class().get_name() == flash_attn.FlashAttentionBackend.get_name()
    assert flash.get_class().get_builder_cls() is WindowMetadataBuilder


def test_the_backend_of_another_plugin_stays(monkeypatch):
    from vllm.v1.attention.backends import registry

    monkeypatch.setattr(registry, "_ATTN_OVERRIDES", {AttentionBackendEnum.FLASH_ATTN: "another.Backend"})
    vllm_plugin.register()
    assert AttentionBackendEnum.FLASH_ATTN.get_path() == "another.Backend"
