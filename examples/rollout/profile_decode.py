# SPDX-License-Identifier: Apache-2.0
"""Where the time of a decode step goes, kernel by kernel, in the engine and batch that `bench` measures. A GPU.

python profile_decode.py SHAPE WINDOW DEPTH OUT    WINDOW 0: full attention; OUT: folder of the trace and of kernels.md
"""

import argparse
import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

TRACED, WARM = 16, 64  # steps
ATTENTION = "FlashAttnFwdSm"  # in the name of the kernel that each layer calls once a step
PRODUCTS = ("nvjet", "gemm")  # in the names of cuBLAS's
WORK = ("kernel", "gpu_memcpy", "gpu_memset")  # of the GPU, in a trace: a wide block table is a large copy


def work(events: list[dict[str, Any]], layers: int) -> tuple[list[dict[str, Any]], float]:
    """Of a chrome trace: what the GPU did, in order, and in how many steps."""
    found = sorted((event for event in events if event.get("cat") in WORK), key=lambda event: event["ts"])
    return found, sum(ATTENTION in event["name"] for event in found) / layers


def gaps(events: list[dict[str, Any]], layers: int) -> list[tuple[str, str, float]]:
    """Where the GPU stands idle: the kernel before, the kernel after, milliseconds a step; most first."""
    found, steps = work(events, layers)
    spent, end = Counter[tuple[str, str]](), found[0]["ts"]
    for before, after in pairwise(found):
        end = max(end, before["ts"] + before["dur"])
        spent[before["name"], after["name"]] += max(0, after["ts"] - end)
    return [(before, after, us / 1e3 / steps) for (before, after), us in spent.most_common()]


def kernels(events: list[dict[str, Any]], layers: int) -> list[tuple[str, float, float]]:
    """Kernel, milliseconds a step, calls a step; most first, and last what the GPU stood idle."""
    found, steps = work(events, layers)
    spent, calls = Counter[str](), Counter[str]()
    for event in found:
        spent[event["name"]] += event["dur"]
        calls[event["name"]] += 1
    rows = [(name, us / 1e3 / steps, calls[name] / steps) for name, us in spent.most_common()]
    return [*rows, ("idle", sum(ms for _, _, ms in gaps(events, layers)), 0.0)]


def parts(rows: list[tuple[str, float, float]], layers: int) -> dict[str, float]:
    """Milliseconds a step of what `kernels` found, summed up by what they do."""
    spent = Counter[str]()
    for name, ms, calls in rows:
        if name == "idle":
            part = "GPU idle"
        elif name.startswith(("Memcpy", "Memset")):
            part = "copies"
        elif "flash::" in name:
            part = "attention, with its combining"
        elif any(product in name for product in PRODUCTS):
            part = "matrix products"
        elif calls >= layers:
            part = "activations, norms, rotary, cache writes"
        else:
            part = "logits to tokens, inputs"
        spent[part] += ms
    return dict(spent.most_common()) | {"whole": spent.total()}


def cell(kernel: str) -> str:
    """Its name, for a table."""
    return kernel[:100].replace("|", "/")


def main() -> None:
    from swarr_verl.bench import shape
    from swarr_verl.bench_engine import Bench
    from swarr_verl.families import apply_window
    from swarr_verl.window import WindowSpec

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape")
    parser.add_argument("window", type=int)
    parser.add_argument("depth", type=int)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    config = shape(options.shape)
    if options.window:
        config = apply_window(config, WindowSpec(options.window))
    config.save_pretrained(options.out / "model")
    profiler = {"profiler": "torch", "torch_profiler_dir": str(options.out.resolve()), "max_iterations": TRACED}
    engine = {
        "compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
        "profiler_config": profiler | {"delay_iterations": WARM, "torch_profiler_with_stack": False},
    }
    spec = {"model": str(options.out / "model"), "depths": [options.depth], "sequences": None, "steps": WARM}
    bench = Bench(spec | {"engine": engine})
    row = bench.row(options.depth)
    bench.engine.start_profile()
    bench.row(options.depth)
    bench.engine.stop_profile()
    trace = max(options.out.glob("*.pt.trace.json*"), key=lambda path: path.stat().st_mtime)
    text = gzip.decompress(trace.read_bytes()) if trace.suffix == ".gz" else trace.read_bytes()
    events = json.loads(text)["traceEvents"]
    found = kernels(events, config.num_hidden_layers)
    lines = [f"{json.dumps(row)}", "", "| part | ms a step |", "|---|---|"]
    lines += [f"| {part} | {ms:.1f} |" for part, ms in parts(found, config.num_hidden_layers).items()]
    lines += ["", "| idle after | before | ms a step |", "|---|---|---|"]
    for before, after, ms in gaps(events, config.num_hidden_layers)[:8]:
        lines.append(f"| {cell(before)} | {cell(after)} | {ms:.3f} |")
    lines += ["", "| kernel | ms a step | calls a step |", "|---|---|---|"]
    for name, ms, calls in found:
        lines.append(f"| {cell(name)} | {ms:.3f} | {calls:.1f} |")
    (options.out / "kernels.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[:42] + lines[-1:]))


if __name__ == "__main__":
    main()
