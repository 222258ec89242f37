# SPDX-License-Identifier: Apache-2.0
"""Decode and prefill speed of one vLLM engine at several depths: `python -m swarr_verl.bench_engine SPEC`.

SPEC is json: `model` (folder of a config.json), `depths`, `sequences` (null: as many as fit, at most the engine's
max_num_seqs), `steps`, `engine` (more arguments of vllm.LLM). Prints one json line of the device's speeds, then one a
depth. A process of its own: its memory goes with it. Prefill is measured for itself; what decodes starts with a filled
cache (filled_cache.py), so that no time goes into getting it there.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig

from swarr_verl.advice import graph_sizes
from swarr_verl.cost import MOST, kept_tokens
from swarr_verl.families import config_windows

COPY = 2**30  # bytes of the copy that measures bandwidth
CHUNK = 16384  # tokens of a prefill step
PREFILL, DECODE = "prefill", "decode"  # how requests are named; the prompt of the latter is not computed


def copy_bandwidth() -> float:
    """Bytes a second of one large copy on the device, those read and those written counted."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.zeros(COPY, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY / fastest(lambda: target.copy_(source))


def product_flops() -> float:
    """Operations a second of one large matrix product on the device, in bfloat16."""
    device, size = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 512)
    factor = torch.randn(size, size, dtype=torch.bfloat16, device=device)  # of equal numbers it would be faster
    return 2 * size**3 / fastest(lambda: factor @ factor)


def fastest(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes on the device, the best of ten."""
    best = float("inf")
    for _ in range(10):
        _wait()
        start = time.perf_counter()
        work()
        _wait()
        best = min(best, time.perf_counter() - start)
    return best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Bench:
    """One engine of a model whose layers all have one window, or none.

    Args:
        spec: see the module.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        from vllm.config import KVTransferConfig

        from swarr_verl.engine import window_engine
        from swarr_verl.filled_cache import TRANSFER

        self.steps, self.asked = spec["steps"], spec["sequences"]
        config = AutoConfig.from_pretrained(spec["model"])
        self.window = config_windows(config)[0]
        arguments: dict[str, Any] = {
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "enable_prefix_caching": False,
            "kv_transfer_config": KVTransferConfig(**TRANSFER),
            "max_model_len": max(spec["depths"]),
            "max_num_batched_tokens": CHUNK,
            "max_num_seqs": self.asked or MOST,
        } | spec["engine"]
        self.most = arguments["max_num_seqs"]
        compilation = arguments.setdefault("compilation_config", {})
        if isinstance(compilation, dict):  # vLLM takes a level, too
            compilation.setdefault("cudagraph_capture_sizes", graph_sizes(self.most))
        self.engine = window_engine(spec["model"], config, **arguments).llm_engine
        cache = self.engine.vllm_config.cache_config
        self.cache_tokens = cache.num_gpu_blocks * cache.block_size
        self.draw = random.Random(0)

    def row(self, depth: int) -> dict[str, Any]:
        """Measure one depth: the largest batch that fits, or the one asked for."""
        fit = self.cache_tokens // kept_tokens(depth, self.window)
        n = self.asked or min(fit, self.most)
        if n > fit:
            raise ValueError(f"--sequences {n}: {fit} of {depth} tokens fit into the KV cache. Ask for fewer.")
        prompt = depth - self._new()
        if prompt < 1:
            raise ValueError(f"--depth {depth}: {self.steps} --steps need {self._new()} tokens of room. Ask for fewer.")
        return {
            "window": self.window,
            "depth": depth,
            "sequences": n,
            "sequences_that_fit": fit,
            "prefill_tokens_a_second": self._prefill(prompt),
            **self._decode(prompt, n),
        }

    def _new(self) -> int:
        """Tokens of a request that decodes: its first, `steps` to warm up, `steps` that are timed, and one to end with.

        Without the last, what vLLM does with blocks when a request ends would be timed too: a visit of each, those
        that the window has dropped included. At 131,072 tokens that took as long as tens of steps (examples/rollout).
        """
        return 2 * self.steps + 2

    def _prefill(self, length: int) -> float:
        n = max(1, 4 * CHUNK // length)
        start = time.perf_counter()
        self._add(PREFILL, length, n, 1)
        self._finish()
        return n * length / (time.perf_counter() - start)

    def _decode(self, length: int, n: int) -> dict[str, float]:
        """All sequences begin in one step; the first `steps` warm up, the next are timed.

        By the clock of vLLM's core, which marks what it sends, so that neither the front end nor a pause of Python's
        garbage collector, which visits each token of each prompt, is taken for a step: a median over stretches of an
        eighth of the steps. The mean is there, too.
        """
        self.engine.sleep(level=0)  # queue what is asked
        self._add(DECODE, length, n, self._new())
        self.engine.wake_up(tags=["scheduling"])
        marks = list[float]()
        while len(marks) <= 2 * self.steps:
            if (sent := self.engine.engine_core.get_output()).outputs:
                marks.append(sent.timestamp)
                if len(sent.outputs) < n:
                    raise RuntimeError(
                        f"vLLM did not decode all of {n} sequences in each step. Ask for fewer --sequences."
                    )
        self._finish()
        timed, stretch = marks[self.steps :], max(1, self.steps // 8)
        seconds = median((end - start) / stretch for start, end in zip(timed, timed[stretch:], strict=False))
        return {
            "mean_context": length + 1.5 * self.steps,
            "ms_a_step": 1e3 * seconds,
            "mean_ms_a_step": 1e3 * (timed[-1] - timed[0]) / self.steps,
            "tokens_a_second": n / seconds,
        }

    def _add(self, kind: str, length: int, n: int, new: int) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            max_tokens=new, ignore_eos=True, temperature=1.0, detokenize=False, output_kind=RequestOutputKind.DELTA
        )
        for index in range(n):
            prompt = self.draw.choices(range(10, 150), k=length) if kind == PREFILL else [10] * length
            self.engine.add_request(f"{kind} {length} {index}", {"prompt_token_ids": prompt}, sampling)

    def _finish(self) -> None:
        while self.engine.has_unfinished_requests():
            self.engine.step()


def main(text: str) -> None:
    """Measure and print."""
    spec = json.loads(text)
    print(json.dumps({"bandwidth": copy_bandwidth(), "flops": product_flops()}), flush=True)
    bench = Bench(spec)
    for depth in spec["depths"]:
        print(json.dumps(bench.row(depth)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
