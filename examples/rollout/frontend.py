# SPDX-License-Identifier: Apache-2.0
"""Tokens a second of vLLM's async engine as verl reads it, by default and through `RolloutEngine`, in one engine.

    python examples/rollout/frontend.py MODEL --out frontend.json
    python examples/rollout/frontend.py MODEL --requests 64 --tokens 64 \
        --engine '{"dtype": "float32", "block_size": 16, "kv_cache_memory_bytes": 268435456}'   # a CPU

All requests run at once, each to its last token (ignore_eos). Timed is the whole batch, first prefill to last token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from vllm import AsyncEngineArgs, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from swarr_verl.files import write_whole
from swarr_verl.patching import installed_version
from swarr_verl.rollout_engine import RolloutEngine

PROMPT = 128  # tokens


async def one(engine: Any, name: str, prompt: list[int], tokens: int) -> None:
    """Read a request as verl's server does (vllm_async_server.py, verl 0.9.1)."""
    params = SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0.7, logprobs=0)
    final = None
    async for output in engine.generate(prompt={"prompt_token_ids": prompt}, sampling_params=params, request_id=name):
        final = output
    assert final is not None and len(final.outputs[0].token_ids) == tokens


async def measure(engine: Any, name: str, requests: int, tokens: int) -> dict[str, float]:
    prompts = [[10 + i % 200] * PROMPT for i in range(requests)]
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(engine, f"{name}-{i}", prompt, tokens) for i, prompt in enumerate(prompts)))
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "tokens_per_second": requests * tokens / seconds,
        "ms_a_token": seconds / tokens * 1e3,
        "cpu_ms_a_token_of_this_process": (time.process_time() - cpu) / tokens * 1e3,
    }


async def run(args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    options = {"max_model_len": PROMPT + args.tokens, "max_num_seqs": args.requests, "stream_interval": 1024}
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=args.model, **options, **args.engine))
    ways = {"default": engine, "RolloutEngine": RolloutEngine(engine)}
    await measure(engine, "warm", args.requests, 8)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for turn in range(args.rounds):
        for way, found in ways.items():
            rows[way].append(await measure(found, f"{way}-{turn}", args.requests, args.tokens))
    engine.shutdown()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or hub name")
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=512, help="of each response")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", type=json.loads, default={}, help="more arguments of vLLM's engine, json")
    parser.add_argument("--out", type=Path, help="json file")
    args = parser.parse_args()
    report = {
        "command": sys.argv,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "vllm": installed_version("vllm"),
        "torch": metadata.version("torch"),
        "requests": args.requests,
        "tokens": args.tokens,
        "rows": asyncio.run(run(args)),
    }
    for way, rows in report["rows"].items():
        print(way, *(f"{name} {statistics.median(row[name] for row in rows):.1f}" for name in rows[0]), sep="  ")
    if args.out:
        write_whole(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
