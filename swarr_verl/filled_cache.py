# SPDX-License-Identifier: Apache-2.0
"""A KV cache that is full from the start, for bench_engine.py: decoding at depth without a prefill to get there.

vLLM's own `DecodeBenchConnector` (kv_connector/v1/decode_bench_connector.py, 0.24 and 0.28) takes each prompt but its
last token for computed elsewhere, and fills its blocks with random numbers. Imports vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.decode_bench_connector import DecodeBenchConnector

from swarr_verl.bench_engine import PREFILL

if TYPE_CHECKING:
    from vllm.v1.request import Request

TRANSFER: dict[str, Any] = {  # vLLM's kv_transfer_config
    "kv_connector": "FilledCache",
    "kv_connector_module_path": __name__,
    "kv_role": "kv_both",
    "kv_connector_extra_config": {"fill_std": 1.0},
}


class FilledCache(DecodeBenchConnector):
    """Fills the cache of every request, those named `PREFILL...` excepted."""

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Return the tokens to fill, and that it is done before the next step."""
        if request.request_id.startswith(PREFILL):
            return 0, False
        return super().get_num_new_matched_tokens(request, num_computed_tokens)
