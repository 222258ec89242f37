# SPDX-License-Identifier: Apache-2.0
"""What vLLM's attention kernel alone reads a second while decoding, in the batches of bench.sh's first run.

No arguments; a GPU with FlashAttention 3. Sequences of 32,768 tokens, one new token each; blocks older than the window
are not there.
"""

import time

import torch
from vllm.vllm_flash_attn import flash_attn_varlen_func

BLOCK, DEPTH, HEAD, RUNS = 16, 32768, 128, 20
BATCHES = (  # heads, KV heads, sequences, window
    *((28, 4, 27, None), (28, 4, 215, 4096), (28, 4, 429, 2048), (28, 4, 853, 1024)),
    *((12, 2, 72, None), (12, 2, 579, 4096), (12, 2, 1024, 2048), (12, 2, 1024, 1024)),
)


def measure(heads: int, kv_heads: int, n: int, window: int | None, splits: int) -> tuple[float, float]:
    """Milliseconds a call, and GB read a second. `splits` of a sequence: 0 lets the kernel choose."""
    seen = min(DEPTH, window or DEPTH)
    columns = DEPTH // BLOCK + 1
    own = min(-(-seen // BLOCK) + 1, columns)
    cache = torch.randn(n * own + 1, 2, BLOCK, kv_heads, HEAD, device="cuda", dtype=torch.bfloat16)
    key, value = cache.unbind(1)
    table = torch.zeros(n, columns, dtype=torch.int32, device="cuda")  # block 0 is what vLLM puts for what is dropped
    table[:, columns - own :] = 1 + torch.arange(n * own, device="cuda", dtype=torch.int32).view(n, own)
    arguments = {
        "max_seqlen_q": 1,
        "cu_seqlens_q": torch.arange(n + 1, device="cuda", dtype=torch.int32),
        "max_seqlen_k": DEPTH,
        "seqused_k": torch.full((n,), DEPTH, device="cuda", dtype=torch.int32),
        "causal": True,
        "window_size": [window - 1, 0] if window else [-1, -1],
        "block_table": table,
        "fa_version": 3,
        "num_splits": splits,
    }
    query = torch.randn(n, heads, HEAD, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        flash_attn_varlen_func(query, key, value, **arguments)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(RUNS):
        flash_attn_varlen_func(query, key, value, **arguments)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / RUNS
    return 1e3 * seconds, n * seen * kv_heads * HEAD * 4 / seconds / 1e9


for heads, kv_heads, n, window in BATCHES:
    for splits in (0, 1):
        ms, speed = measure(heads, kv_heads, n, window, splits)
        print(f"n={n} depth={DEPTH} w={window} h={heads}/{kv_heads} fa3 splits={splits} ms={ms:.3f} GB/s={speed:.0f}")
