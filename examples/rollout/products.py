# SPDX-License-Identifier: Apache-2.0
"""What a decode step's matrix products take by the number of sequences: which batches, and CUDA graphs, are worth it.

python products.py SHAPE [--sequences N ...] --out FILE    a GPU: bf16, weights of random numbers, as vLLM fuses them
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from swarr_verl.bench import shape
from swarr_verl.bench_engine import fastest
from swarr_verl.files import write_whole

READ = 256 << 20  # bytes of weights that are read in turn, or a GPU's cache holds them as it does not in a whole step
SEQUENCES = [*range(32, 257, 32), *range(288, 513, 32), *range(576, 1025, 64)]


def sizes(name: str) -> dict[str, tuple[int, int, int]]:
    """Of each product: inputs, outputs, and how often a step makes it."""
    config = shape(name)
    hidden, mlp, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    keys = 2 * hidden * config.num_key_value_heads // config.num_attention_heads
    return {
        "qkv": (hidden, hidden + keys, layers),
        "o": (hidden, hidden, layers),
        "gate_up": (hidden, 2 * mlp, layers),
        "down": (mlp, hidden, layers),
        "logits": (hidden, config.vocab_size, 1),
    }


def multiply(given: torch.Tensor, weights: torch.Tensor) -> None:
    """`given`, [sequences, inputs], by each of `weights`, [layers, outputs, inputs]."""
    for weight in weights:
        linear(given, weight)


def recorded(work: Callable[[], None]) -> Callable[[], None]:
    """`work` as a CUDA graph, as in a decode step: one by one, small products take what Python takes to launch them."""
    if not torch.cuda.is_available():
        return work
    work()  # what is allocated once
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def measure(name: str, sequences: list[int]) -> list[dict[str, Any]]:
    """One row a batch: milliseconds a step of each product, of all, and operations a second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[dict[str, Any]] = [{"sequences": n} for n in sequences]
    operations = 0
    for product, (inputs, outputs, times) in sizes(name).items():
        layers = max(4, READ // (2 * inputs * outputs))
        weights = torch.randn(layers, outputs, inputs, dtype=torch.bfloat16, device=device)
        operations += 2 * inputs * outputs * times
        for row in rows:
            given = torch.randn(row["sequences"], inputs, dtype=torch.bfloat16, device=device)
            row[product] = 1e3 * times / layers * fastest(recorded(partial(multiply, given, weights)))
    for row in rows:
        row["ms"] = sum(row[product] for product in sizes(name))
        row["tflops"] = operations * row["sequences"] / row["ms"] / 1e9
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|---" * len(keys) + "|"]
    for row in rows:
        lines.append(
            "| " + " | ".join(f"{row[key]:.0f}" if key == "tflops" else f"{row[key]:.4g}" for key in keys) + " |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape")
    parser.add_argument("--sequences", type=int, nargs="+", default=SEQUENCES)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = measure(options.shape, options.sequences)
    write_whole(options.out, json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
