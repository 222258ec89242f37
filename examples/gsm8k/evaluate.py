# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a checkpoint: `python evaluate.py MODEL TEST.parquet ... OUT` (test sets: verl's RL schema).

Writes OUT.json (one row of the table) and OUT.jsonl.gz (one line a problem, as `swarr_verl report` reads it). The
window is the checkpoint's own, from config.json; `--window W` puts an unconverted checkpoint under a window, untrained
("naive SWA"). Either way the live engine is asked, layer by layer, before a token is generated: another window ends
the run.
"""

import argparse
import gzip
import json
import math
import time
from hashlib import blake2b
from pathlib import Path

import pyarrow.parquet as pq
import torch
import vllm
from transformers import AutoConfig
from vllm import LLM, SamplingParams

from swarr_verl.engine import window_engine
from swarr_verl.families import apply_window, config_windows
from swarr_verl.files import write_whole
from swarr_verl.reward import math_reward
from swarr_verl.window import WindowSpec


def build(args: argparse.Namespace) -> tuple[LLM, list[int | None]]:
    """The engine, and the window of each layer, after the engine has confirmed it."""
    config = AutoConfig.from_pretrained(args.model)
    if args.window is not None:
        config = apply_window(config, WindowSpec(args.window))
    llm = window_engine(
        args.model,
        config,
        dtype=args.dtype,
        seed=args.seed,  # of the engine: a seed a request would draw the same numbers for every problem
        max_model_len=args.max_prompt_tokens + args.max_tokens,
        max_num_seqs=512,
        gpu_memory_utilization=0.1,  # of the card, at start; what is used is the next line and the weights
        kv_cache_memory_bytes=int(args.kv_gib * 2**30),  # no profiling: others may share the card meanwhile
        enforce_eager=True,
        **json.loads(args.engine),
    )
    return llm, config_windows(config)


def generate(llm: LLM, rows: list[dict], args: argparse.Namespace) -> list[dict]:
    """One graded line a problem."""
    sampling = SamplingParams(temperature=args.temperature, max_tokens=args.max_tokens)
    template = llm.get_tokenizer().apply_chat_template
    prompts = [template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    lines = []
    for number, (row, prompt, output) in enumerate(zip(rows, prompts, outputs, strict=True)):
        best, gold = output.outputs[0], row["reward_model"]["ground_truth"]
        grade = math_reward(row["data_source"], best.text, gold)
        lines.append(
            {
                "uid": f"{number}_0_0",  # as in verl's dump of a validation
                "data_source": row["data_source"],
                "input": blake2b(prompt.encode(), digest_size=8).hexdigest(),  # tells problems apart; short
                "gts": gold,
                "pred": grade["pred"],
                "acc": grade["acc"],
                "tokens": len(best.token_ids),
                "truncated": best.finish_reason == "length",
                "output": best.text,
            }
        )
    return lines


def summarize(lines: list[dict], windows: list[int | None], args: argparse.Namespace, seconds: float) -> dict:
    n = len(lines)
    accuracy = sum(line["acc"] for line in lines) / n
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "name": args.out.name,
        "model": args.model,
        "window": windows[0] if len(set(windows)) == 1 else windows,
        "n": n,
        "accuracy": accuracy,
        "stderr": math.sqrt(accuracy * (1 - accuracy) / n),
        "truncated": sum(line["truncated"] for line in lines) / n,
        "mean_tokens": sum(line["tokens"] for line in lines) / n,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "seconds": round(seconds, 1),
        "vllm": vllm.__version__,
        "gpu": gpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="checkpoint: folder or hub name")
    parser.add_argument("test", type=Path, nargs="+", help="parquet in verl's RL schema")
    parser.add_argument("out", type=Path, help="OUT.json and OUT.jsonl.gz")
    parser.add_argument("--window", type=int, help="put an unconverted checkpoint under this window")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0, help="0 is greedy; else one sample a problem")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--max-prompt-tokens", type=int, default=512)
    parser.add_argument("--limit", type=int, help="only the first problems of each set")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--kv-gib", type=float, default=5)
    parser.add_argument("--engine", default="{}", help="more arguments of vllm.LLM, as JSON")
    args = parser.parse_args()

    start = time.time()
    rows = [row for test in args.test for row in pq.read_table(test).to_pylist()[: args.limit]]
    llm, windows = build(args)
    lines = generate(llm, rows, args)
    row = summarize(lines, windows, args, time.time() - start)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_whole(args.out.with_name(args.out.name + ".jsonl.gz"), gzip.compress(text.encode(), mtime=0))
    write_whole(args.out.with_name(args.out.name + ".json"), json.dumps(row, indent=1) + "\n")
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
