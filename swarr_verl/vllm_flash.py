# SPDX-License-Identifier: Apache-2.0
"""vLLM's FlashAttention backend, mended for windows in CUDA graphs. Registered by vllm_plugin.py, in vLLM's registry.

FlashAttention 3 takes its kernel for full attention if the window reaches as far as the longest sequence, and for heads
of up to 64 or over 128 that kernel has another layout of its schedule than the one for windows (`head_swizzle` in
hopper/flash_api.cpp, vllm-project/flash-attention 01ed8aa). vLLM 0.24.0 and 0.28.0 capture the kernel for
`max_model_len`, but lay out its schedule in each step for the sequences at hand (v1/attention/backends/flash_attn.py,
`build`). As long as none of them outgrows the window, a captured step of decoding reads the one layout as the other: it
writes nonsense. Found by `swarr.max_excess_nll` (examples/evaluation).
"""

from __future__ import annotations

from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends.flash_attn import (
    FlashAttentionBackend,
    FlashAttentionMetadata,
    FlashAttentionMetadataBuilder,
)


class WindowMetadataBuilder(FlashAttentionMetadataBuilder):
    """Lays out every step of a model with a window as it was captured: for sequences of `max_model_len`."""

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> FlashAttentionMetadata:
        """Build as vLLM does; the longest length only chooses the kernel, what is read comes from the lengths."""
        if getattr(self.kv_cache_spec, "sliding_window", None) is not None:
            longest = self.model_config.max_model_len
            common_attn_metadata = common_attn_metadata.replace(max_seq_len=longest)
        return super().build(common_prefix_len, common_attn_metadata, fast_build)


class WindowFlashAttentionBackend(FlashAttentionBackend):
    """FLASH_ATTN, with WindowMetadataBuilder."""

    @staticmethod
    def get_builder_cls() -> type[WindowMetadataBuilder]:
        """Return the builder; all else is vLLM's."""
        return WindowMetadataBuilder
