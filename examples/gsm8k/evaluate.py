# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a checkpoint: `python evaluate.py MODEL TEST.parquet ... OUT` (test sets: verl's RL schema).

Writes OUT.json (one row of the table) and OUT.jsonl.gz (one line a sample, as `swarr_verl report` reads it). The
window is the checkpoint's own, from config.json; `--window W` puts an unconverted checkpoint under a window, untrained
("naive SWA"), and a converted one under another, if `--config` names the model that it was made from. Either way the
live engine is asked, layer by layer, before a token is generated: another window ends the run.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import vllm
from transformers import AutoConfig
from vllm import LLM, CompletionOutput, SamplingParams

from swarr_verl.engine import window_engine
from swarr_verl.evaluation import with_error
from swarr_verl.families import apply_window, config_windows
from swarr_verl.files import write_whole
from swarr_verl.reward import math_reward
from swarr_verl.trajectories import digest, prompt_text
from swarr_verl.window import WindowSpec


def build(args: argparse.Namespace) -> tuple[LLM, list[int | None]]:
    """The engine, and the window of each layer, after the engine has confirmed it."""
    config = AutoConfig.from_pretrained(args.config or args.model)
    if args.window is not None:
        config = apply_window(config, WindowSpec(args.window))
    own = {
        "seed": args.seed,  # of the engine: a seed a request would draw the same numbers for every problem
        "dtype": "bfloat16",
        "max_model_len": args.max_prompt_tokens + args.max_tokens,
        "max_num_seqs": 512,
        "gpu_memory_utilization": 0.1,  # of the card, at start; what is used is the next line and the weights
        "kv_cache_memory_bytes": 5 * 2**30,  # no profiling: others may share the card meanwhile
    }
    return window_engine(args.model, config, **own | json.loads(args.engine)), config_windows(config)


def generate(llm: LLM, rows: list[dict], samples: int, temperature: float, max_tokens: int) -> list[dict]:
    """One graded line a sample, those of a problem one after the other."""
    sampling = SamplingParams(n=samples, temperature=temperature, max_tokens=max_tokens)
    tokenizer = llm.get_tokenizer()
    prompts = [prompt_text(tokenizer, row["prompt"]) for row in rows]
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    lines = []
    for number, (row, prompt, output) in enumerate(zip(rows, prompts, outputs, strict=True)):
        asked = digest(prompt)
        lines += [graded(f"{number}_0_{index}", row, asked, one) for index, one in enumerate(output.outputs)]
    return lines


def graded(uid: str, row: dict, prompt: str, answer: CompletionOutput) -> dict:
    """One line, with the names of verl's dump of a validation."""
    gold = row["reward_model"]["ground_truth"]
    grade = math_reward(row["data_source"], answer.text, gold)
    return {
        "uid": uid,
        "data_source": row["data_source"],
        "input": prompt,
        "gts": gold,
        "pred": grade["pred"],
        "acc": grade["acc"],
        "tokens": len(answer.token_ids),
        "truncated": answer.finish_reason == "length",
        "output": answer.text,
    }


def draw(text: str) -> tuple[int, float]:
    """Samples and temperature.

    >>> draw("8@0.7")
    (8, 0.7)
    """
    samples, _, temperature = text.partition("@")
    return int(samples), float(temperature)


def summarize(lines: list[dict], samples: int, temperature: float, windows: list[int | None], max_tokens: int) -> dict:
    """One row of a table; the standard error is over problems."""
    right = np.array([line["acc"] for line in lines]).reshape(-1, samples).mean(1)
    accuracy, error = with_error(right)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "window": windows[0] if len(set(windows)) == 1 else windows,
        "n": len(right),
        "samples": samples,
        "accuracy": accuracy,
        "stderr": error,
        "truncated": sum(line["truncated"] for line in lines) / len(lines),
        "mean_tokens": sum(line["tokens"] for line in lines) / len(lines),
        "max_tokens": max_tokens,
        "temperature": temperature,
        "vllm": vllm.__version__,
        "gpu": gpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="checkpoint: folder or hub name")
    parser.add_argument("test", type=Path, nargs="+", help="parquet in verl's RL schema")
    parser.add_argument("out", type=Path, help="OUT.json and OUT.jsonl.gz")
    parser.add_argument("--window", type=int, help="put an unconverted checkpoint under this window")
    parser.add_argument("--config", help="model whose config counts for --window, not the checkpoint's")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0, help="0 is greedy; else one sample a problem")
    parser.add_argument("--also", type=draw, metavar="K@T", help="and K samples a problem at temperature T, to OUT_xK")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--max-prompt-tokens", type=int, default=512)
    parser.add_argument("--limit", type=int, help="only the first problems of each set")
    parser.add_argument("--engine", default="{}", help="more arguments of vllm.LLM, as JSON")
    args = parser.parse_args()

    start = time.time()
    rows = [row for test in args.test for row in pq.read_table(test).to_pylist()[: args.limit]]
    llm, windows = build(args)
    draws = [(args.out, 1, args.temperature)]  # last: where OUT.json is, all is
    if args.also is not None:
        draws.insert(0, (args.out.with_name(f"{args.out.name}_x{args.also[0]}"), *args.also))
    for out, samples, temperature in draws:
        lines = generate(llm, rows, samples, temperature, args.max_tokens)
        row = {"name": out.name, "model": args.model, "seconds": round(time.time() - start, 1)}
        row |= summarize(lines, samples, temperature, windows, args.max_tokens)
        out.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_whole(out.with_name(out.name + ".jsonl.gz"), gzip.compress(text.encode(), mtime=0))
        write_whole(out.with_name(out.name + ".json"), json.dumps(row, indent=1) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
