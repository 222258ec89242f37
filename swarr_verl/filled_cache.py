# SPDX-License-Identifier: Apache-2.0
"""A KV cache that is full from the start, for bench_engine.py: decoding at depth without a prefill to get there.

vLLM's own `DecodeBenchConnector` (kv_connector/v1/decode_bench_connector.py, 0.24 and 0.28) takes each prompt but its
last token for computed elsewhere. It fills the blocks of each request, layer by layer, those that a window dropped
included: 8192 at 131k tokens, where W=1024 keeps 65. Here the whole cache is filled, once. Imports vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.decode_bench_connector import DecodeBenchConnector

from swarr_verl.bench_engine import PREFILL

if TYPE_CHECKING:
    import torch
    from vllm.forward_context import ForwardContext
    from vllm.v1.request import Request

TRANSFER: dict[str, Any] = {  # vLLM's kv_transfer_config
    "kv_connector": "FilledCache",
    "kv_connector_module_path": __name__,
    "kv_role": "kv_both",
}


class FilledCache(DecodeBenchConnector):
    """A cache of random numbers for every request, those named `PREFILL...` excepted."""

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Fill what each layer has: [2, blocks, tokens of a block, KV heads, head_dim], or blocks first."""
        for cache in kv_caches.values():
            cache.normal_()

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        """Nothing is left to fill."""

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Return the tokens to fill, and that it is done before the next step."""
        if request.request_id.startswith(PREFILL):
            return 0, False
        return super().get_num_new_matched_tokens(request, num_computed_tokens)
