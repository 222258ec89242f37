# SPDX-License-Identifier: Apache-2.0
"""A training step and its attention, self-attention against two windows, every kernel: `python bench.py OUT.json`.

Qwen2 0.5B's shape with random weights in bf16, one row in the packed (varlen) form in which verl trains, forward and
backward, gradient checkpointing on (verl's default), no optimizer. The loss takes the hidden states in chunks and
computes a chunk's logits again in the backward: the logits of 32k tokens alone are 20 GB in fp32, and as much again
for their gradient. Under 5 minutes on an H100; OUT.json is replaced whole after each cell.
"""

import argparse
import datetime
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from plot import fit_lines, table_lines
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from swarr_verl import attention
from swarr_verl.families import apply_window
from swarr_verl.files import write_whole
from swarr_verl.window import WindowSpec, visible

SHAPE = dict(  # Qwen2.5-0.5B's config.json
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    max_position_embeddings=32768,
    tie_word_embeddings=True,
)
TOKENS = (4096, 8192, 16384, 32768)
WINDOWS = (None, 4096, 512)
MASKED_TOKENS = 8192  # the longest row for sdpa: its mask is tokens x tokens
CHUNK = 2048  # tokens of which logits exist at a time
WARMUP, STEPS, CALLS = 2, 5, 20
DEVICE = "cuda"


def milliseconds(run: Callable[[], object], repetitions: int, ahead: bool) -> list[float]:
    """GPU time of each repetition, after WARMUP others (kernels are compiled in the first).

    Args:
        ahead: keep the GPU busy for some milliseconds first, so that the CPU is ahead of it and launching a short
            kernel costs nothing, as in a long step.
    """
    for _ in range(WARMUP):
        run()
    times = []
    for _ in range(repetitions):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        if ahead:
            torch.cuda._sleep(20_000_000)  # cycles, about 10 ms
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return times


def build(window: int | None) -> PreTrainedModel:
    config = Qwen2Config(**SHAPE)
    if window is not None:
        config = apply_window(config, WindowSpec(window))
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def one_row(tokens: int) -> dict:
    """The arguments that make transformers take the packed path, for one row."""
    offsets = torch.tensor([0, tokens], dtype=torch.int32, device=DEVICE)
    return dict(cu_seq_lens_q=offsets, cu_seq_lens_k=offsets, max_length_q=tokens, max_length_k=tokens)


def step(model: PreTrainedModel, tokens: int) -> Callable[[], None]:
    """Forward and backward of next-token prediction."""
    ids = torch.randint(SHAPE["vocab_size"], (1, tokens + 1), device=DEVICE)
    positions = torch.arange(tokens, device=DEVICE)[None]

    def chunk_loss(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(model.lm_head(hidden).float(), labels, reduction="sum")

    def run() -> None:
        model.zero_grad(set_to_none=True)
        states = model.model(input_ids=ids[:, :-1], position_ids=positions, use_cache=False, **one_row(tokens))
        chunks = zip(states.last_hidden_state[0].split(CHUNK), ids[0, 1:].split(CHUNK), strict=True)
        (sum(checkpoint(chunk_loss, *chunk, use_reentrant=False) for chunk in chunks) / tokens).backward()

    return run


def attention_alone(model: PreTrainedModel, tokens: int) -> Callable[[], None]:
    """Forward and backward of one layer's kernel, through transformers, on inputs laid out as the model's."""
    layer, config = model.model.layers[0].self_attn, model.config
    heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    q, k, v = (
        torch.randn(1, tokens, n, layer.head_dim, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
        for n in heads
    )
    window, row = layer.sliding_window, one_row(tokens)
    masked = config._attn_implementation == "sdpa" and window is not None
    mask = visible(tokens, tokens, window)[None, None].to(DEVICE) if masked else None
    kernel, grad = ALL_ATTENTION_FUNCTIONS[config._attn_implementation], torch.randn_like(q)

    def run() -> None:
        inputs = (t.transpose(1, 2) for t in (q, k, v))
        out, _ = kernel(layer, *inputs, mask, dropout=0.0, scaling=layer.scaling, sliding_window=window, **row)
        torch.autograd.grad(out, (q, k, v), grad)

    return run


def measure(model: PreTrainedModel, tokens: int) -> list[dict]:
    """One cell: the step and the attention, or that they do not fit into the memory."""
    rows = []
    for what, make, repetitions in (("step", step, STEPS), ("attention", attention_alone, CALLS)):
        torch.cuda.reset_peak_memory_stats()
        try:
            times = milliseconds(make(model, tokens), repetitions, ahead=what == "attention")
        except torch.OutOfMemoryError:
            times = []
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        rows.append(
            {
                "what": what,
                "ms": round(statistics.median(times), 4) if times else None,
                "range_ms": [round(min(times), 4), round(max(times), 4)] if times else None,
                "repetitions": repetitions,
                "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
            }
        )
    return rows


def conditions(commit: str) -> dict:
    packages = ("torch", "transformers", "flash-attn", "flash-attn-4", "triton")
    present = {d.metadata["Name"] for d in metadata.distributions()}
    installed = {name: metadata.version(name) for name in packages if name in present}  # what an import would find
    return {
        "device": torch.cuda.get_device_name(),
        "driver_cuda": torch.version.cuda,
        "versions": dict(sorted(installed.items())),
        "commit": commit,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "shape": SHAPE,
        "dtype": "bfloat16",
        "what": "forward + backward, ms, median; step: gradient checkpointing, no optimizer; attention: one layer",
        "rows": [],
    }


def write(results: dict, path: Path) -> None:
    write_whole(path, json.dumps(results, indent=1) + "\n")


def git_commit() -> str:
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--commit", default=git_commit(), help="of this code, where there is no git")
    options = parser.parse_args()
    results, began = conditions(options.commit), time.monotonic()
    kernels = [name for name in attention.available() if name != "eager"]
    for window in WINDOWS:
        torch.manual_seed(0)
        model = build(window)
        for kernel in kernels:
            attention.activate(kernel)
            model.set_attn_implementation(kernel)
            for tokens in TOKENS if kernel != "sdpa" else [n for n in TOKENS if n <= MASKED_TOKENS]:
                cell = {"kernel": kernel, "window": window, "tokens": tokens}
                results["rows"] += [cell | row for row in measure(model, tokens)]
                write(results, options.out)
                times = ", ".join(f"{row['what']} {row['ms']} ms" for row in results["rows"][-2:])
                print(f"{time.monotonic() - began:5.0f} s  {kernel}, window {window}, {tokens}: {times}", flush=True)
        del model
        torch.cuda.empty_cache()
    print("\n".join([*table_lines(results), *fit_lines(results)]))


if __name__ == "__main__":
    sys.exit(main())
