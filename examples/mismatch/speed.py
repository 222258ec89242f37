# SPDX-License-Identifier: Apache-2.0
"""Which reads faster for `mismatch`: transformers, as it does, or vLLM's prompt_logprobs? The same texts by both.

python speed.py FILE --model MODEL --window W [--limit N] [--engine JSON] --out FILE    FILE: SFT parquet

Loading is not timed, nor one text that warms up. Nothing else should run on the machine.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoTokenizer

from swarr_verl.files import write_whole
from swarr_verl.need import Text, context_need, group_ends, load
from swarr_verl.trajectories import read


def with_transformers(model: str, window: int, stride: int) -> Callable[[list[Text]], float]:
    """A reader: need of all tokens together, nats."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load(model, device)

    def reads(texts: list[Text]) -> float:
        found = context_need(loaded, [(tokens.to(device), prompt) for tokens, prompt in texts], window, stride)
        return sum((truncated - whole).sum().item() for whole, truncated in found)

    return reads


def with_vllm(model: str, window: int, stride: int, engine: dict) -> Callable[[list[Text]], float]:
    """A reader of the same: prompt_logprobs cost the logits of every token of a text, not of those scored alone."""
    from vllm import LLM, SamplingParams

    llm = LLM(model, enable_prefix_caching=False, **engine)
    sampling = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)

    def nll(texts: list[list[int]]) -> list[list[float]]:
        prompts = [{"prompt_token_ids": text} for text in texts]
        return [
            [-step[token].logprob for token, step in zip(text[1:], out.prompt_logprobs[1:], strict=True)]
            for text, out in zip(texts, llm.generate(prompts, sampling, use_tqdm=False), strict=True)
        ]

    def reads(texts: list[Text]) -> float:
        rows = [(tokens.tolist(), prompt) for tokens, prompt in texts]
        groups = [
            (row, max(end - stride, prompt), end)
            for row, (tokens, prompt) in enumerate(rows)
            for end in group_ends(prompt, len(tokens), window, stride)
        ]
        scored = nll([tokens for tokens, _ in rows] + [rows[row][0][end - window - 1 : end] for row, _, end in groups])
        need = 0.0
        for (row, begin, end), truncated in zip(groups, scored[len(rows) :], strict=True):
            need += sum(truncated[begin - end :]) - sum(scored[row][begin - 1 : end - 1])
        return need

    return reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--engine", type=json.loads, default={}, help="more arguments of vllm.LLM")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts = []
    for one in islice(read(options.file, {}), options.limit):
        prompt, response = one.tokens(tokenizer)
        texts.append((torch.tensor(prompt + response), len(prompt)))
    tokens = sum(len(text) - prompt for text, prompt in texts)
    shared = options.model, options.window, options.stride
    readers = {"transformers": partial(with_transformers, *shared), "vllm": partial(with_vllm, *shared, options.engine)}
    rows = {}
    for name, load_reader in readers.items():
        reader = load_reader()
        reader(texts[:1])
        start = time.perf_counter()
        need = reader(texts)
        seconds = time.perf_counter() - start
        rows[name] = {"seconds": seconds, "need": need / tokens, "trajectories": len(texts), "tokens": tokens}
        print(f"{name}: {seconds:.1f} s for {tokens} tokens of {len(texts)} responses, need {need / tokens:.4f}")
        del reader
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    write_whole(options.out, json.dumps({"command": sys.argv, "device": device, **rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
