# SPDX-License-Identifier: Apache-2.0
"""vLLM in a process of its own that serves one checkpoint after another: importing vLLM takes longer than a case.

A case is a line of json on stdin, `{path, prompts, new, options}`; its answer is a line on stdout that begins with
ANSWER: the tokens of two passes over the prompts (the second hits the prefix cache, if there is one), each layer's
windows on the live engine, and how often a sequence was preempted.
"""

import gc
import json
import os
import sys

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine in this process, not in a child that imports it again

import torch
from vllm import LLM, SamplingParams
from vllm.v1.metrics.reader import Counter


def answer(path: str, prompts: list[list[int]], new: int, options: dict) -> dict:
    """One case."""
    defaults = dict(
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=len(prompts),
        block_size=16,
        max_num_batched_tokens=64,
        disable_log_stats=False,
        gpu_memory_utilization=0.1,
        kv_cache_memory_bytes=1 << 26,
        worker_extension_cls="swarr_verl.rollout_worker.SwarrWorkerExtension",
    )
    llm = LLM(path, **defaults | options)
    # No min_tokens: with it vLLM masks EOS, ignore_eos or not, and a plain argmax does not.
    sampling = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
    outs = [llm.generate([{"prompt_token_ids": p} for p in prompts], sampling, use_tqdm=False) for _ in range(2)]
    preemptions = [m for m in llm.get_metrics() if isinstance(m, Counter) and m.name == "vllm:num_preemptions"]
    found = {
        "tokens": [[list(o.outputs[0].token_ids) for o in out] for out in outs],
        "windows": dict(llm.collective_rpc("swarr_windows")[0]),
        "preemptions": sum(m.value for m in preemptions),
    }
    llm.llm_engine.engine_core.shutdown()
    return found


def main() -> None:
    """Serve until stdin ends."""
    for line in sys.stdin:
        print("ANSWER" + json.dumps(answer(**json.loads(line))), flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
