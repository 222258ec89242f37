# SPDX-License-Identifier: Apache-2.0
"""`python -m swarr_verl bench MODEL --window ... --depth ...`: what a window gains while decoding.

`--dry` predicts from the config alone. Without it, each window gets a vLLM engine of its own (bench_engine.py,
dummy weights), the same depths, and its measured row beside the prediction, which then takes the speeds of a copy and
of a matrix product on the same device, and that of vLLM's Python on the same host. The bound is what reading alone
would allow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm
from transformers import AutoConfig, PretrainedConfig

from swarr_verl.cost import MOST, Cost
from swarr_verl.errors import UserError
from swarr_verl.families import apply_window, config_windows
from swarr_verl.files import write_whole
from swarr_verl.window import WindowError, WindowSpec

QWEN = {"vocab_size": 151936, "max_position_embeddings": 131072, "rope_theta": 1e6, "dtype": "bfloat16"}
SHAPES = {  # of Qwen2.5: hidden, MLP, layers, heads, KV heads
    "0.5b": (896, 4864, 24, 14, 2),
    "1.5b": (1536, 8960, 28, 12, 2),
    "7b": (3584, 18944, 28, 28, 4),
}


# A model so small that vLLM's Python sets the pace of a step.
SMALL = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
SMALL |= {"num_key_value_heads": 1, "vocab_size": 256}
HOST = 37.0  # microseconds a sequence, where it is not measured: beside an H100, examples/rollout


class Device(NamedTuple):
    """What decoding asks of a machine.

    Args:
        bandwidth: bytes that it copies a second, read and written.
        flops: operations of a large matrix product a second.
        host: seconds that vLLM's Python takes for a sequence in a step.
    """

    bandwidth: float
    flops: float
    host: float


class BenchError(UserError):
    """What cannot be measured or predicted as asked. The message names the option and the remedy."""


def shape(name: str) -> PretrainedConfig:
    """Return the config of a named shape, or of a checkpoint's folder or name on the hub.

    Raises:
        BenchError: neither.
    """
    if name not in SHAPES:
        try:
            return AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise BenchError(f"MODEL {name}: {error} Give a checkpoint, or one of {', '.join(SHAPES)}.") from error
    hidden, mlp, layers, heads, kv = SHAPES[name]
    sizes = {"hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv, "tie_word_embeddings": name != "7b"}
    return AutoConfig.for_model("qwen2", **QWEN, **sizes)


def run(options: argparse.Namespace) -> int:
    """Predict or measure as the command line says; writes bench.json, bench.md and bench.png to OUT.

    Raises:
        BenchError: an option that does not fit, or an engine that failed.
    """
    configs = _configs(options.model, options.window)
    costs = {window: Cost.of(config, config_windows(config)) for window, config in configs.items()}
    if options.steps < 2:
        raise BenchError("--steps: give at least 2.")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.dry:
        if None in (options.bandwidth, options.tflops, options.memory):
            raise BenchError(
                "--dry: give --bandwidth, GB a second, --tflops, and --memory, GiB for weights and KV cache."
            )
        host = HOST if options.host is None else options.host
        device = Device(1e9 * options.bandwidth, 1e12 * options.tflops, host / 1e6)
        rows = dry(costs, options.depth, options.sequences, device, 2**30 * options.memory)
        write(rows, options.out)
        figure(rows, options.out / "bench.png")
    else:
        rows = []
        try:
            for row in measured(configs, costs, options):
                rows = sorted([*rows, row], key=lambda row: row["depth"])
                write(rows, options.out)  # each time: what is measured stays, whatever comes
        finally:  # not before: the next row is being measured
            if rows:
                figure(rows, options.out / "bench.png")
    print("\n".join(markdown(rows)))
    return 0


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Write bench.md and bench.json."""
    write_whole(out / "bench.md", "\n".join(markdown(rows)) + "\n")
    write_whole(out / "bench.json", json.dumps({"command": sys.argv, "rows": rows}, indent=1) + "\n")


def _configs(model: str, windows: list[int]) -> dict[int | None, PretrainedConfig]:
    """Config of each column: full attention (None) first."""
    full = shape(model)
    try:
        if any(config_windows(full)):
            raise BenchError(f"MODEL {model} has a window already. Give the checkpoint that it was converted from.")
        return {None: full} | {window: apply_window(deepcopy(full), WindowSpec(window)) for window in windows}
    except WindowError as error:
        raise BenchError(f"MODEL {model}: {error}") from error


def dry(
    costs: dict[int | None, Cost], depths: list[int], sequences: int | None, device: Device, memory: float
) -> list[dict[str, Any]]:
    """Predict a row for each depth and window.

    Args:
        costs: of the model under each window.
        depths: tokens of context.
        sequences: of a step; None: as many as fit, at most 1024.
        device: its speeds.
        memory: bytes for weights and KV cache.
    """
    rows = []
    for depth in depths:
        for window, cost in costs.items():
            fit = cost.sequences(depth, memory)
            n = sequences or min(fit, MOST)
            if not 0 < n <= fit:
                raise BenchError(f"--depth {depth}: {fit} sequences fit at window {window}. Ask for less.")
            rows.append({"window": window, "depth": depth, "sequences": n, **predicted(cost, depth, n, device)})
    return rows


def predicted(cost: Cost, depth: int, sequences: int, device: Device) -> dict[str, float]:
    """A decode step by arithmetic: the bound that reading its bytes sets, and what it should take."""
    bound, seconds = cost.step(depth, sequences) / device.bandwidth, cost.seconds(depth, sequences, *device)
    return {
        "kv_bytes_a_sequence": cost.kept(depth),
        "bound_ms_a_step": 1e3 * bound,
        "bound_tokens_a_second": sequences / bound,
        "predicted_ms_a_step": 1e3 * seconds,
        "predicted_tokens_a_second": sequences / seconds,
    }


def measured(
    configs: dict[int | None, PretrainedConfig], costs: dict[int | None, Cost], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Measure each window in an engine of its own, and put beside it what the device's speeds predict."""
    with tqdm(total=len(configs) * len(options.depth), unit=" cells", disable=None) as bar:
        host = _host(options) if options.host is None else options.host / 1e6
        for window, config in configs.items():
            lines = _engine(config, options, options.depth)
            device = Device(**next(lines), host=host)
            for found in lines:
                cost, depth, n = costs[window], found["mean_context"], found["sequences"]
                read = cost.step(round(depth), n) / (found["ms_a_step"] / 1e3)
                found |= predicted(cost, round(depth), n, device)
                speeds = {"copy_bandwidth": device.bandwidth, "product_flops": device.flops, "host_seconds": host}
                yield found | speeds | {"bandwidth_share": read / device.bandwidth}
                bar.update()


def _host(options: argparse.Namespace) -> float:
    """Seconds that vLLM's Python takes for a sequence in a step: of a full batch of a small model."""
    small = AutoConfig.for_model("qwen2", **QWEN | SMALL)
    _, row = _engine(small, options, [8 * options.steps])
    return row["ms_a_step"] / 1e3 / row["sequences"]


def _engine(config: PretrainedConfig, options: argparse.Namespace, depths: list[int]) -> Iterator[dict[str, Any]]:
    """The lines of `swarr_verl.bench_engine` as they come."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        spec = {"model": folder, "depths": depths, "sequences": options.sequences, "steps": options.steps}
        command = [sys.executable, "-m", "swarr_verl.bench_engine", json.dumps(spec | {"engine": options.engine})]
        log = options.out / "engine.log"
        with log.open("w") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(b"{"):  # vLLM prints too
                    yield json.loads(line)
        if process.returncode:
            tail = "\n".join(log.read_text().splitlines()[-5:])
            raise BenchError(f"The engine failed (exit code {process.returncode}). The end of {log}:\n{tail}")


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    """One line a row; gains are over full attention at the same depth."""
    kinds = [kind for kind in ("bound_", "predicted_", "") if f"{kind}tokens_a_second" in rows[0]]
    head = ["depth", "window", "sequences", "KV kB a sequence"]
    for kind in kinds:
        head += [f"{kind.replace('_', ', ')}{what}" for what in ("ms a step", "tokens/s", "gain")]
    head += ["of the copy's bandwidth", "prefill, tokens/s"] * ("" in kinds)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        base = next(other for other in rows if other["depth"] == row["depth"] and other["window"] is None)
        cells = [f"{row['depth']:,}", row["window"] or "full", row["sequences"]]
        cells += [f"{row['kv_bytes_a_sequence'] / 1e3:,.0f}"]
        for kind in kinds:
            speed = row[f"{kind}tokens_a_second"]
            cells += [f"{row[f'{kind}ms_a_step']:.2f}", f"{speed:,.0f}"]
            cells += [f"{speed / base[f'{kind}tokens_a_second']:.2f}"]
        if "" in kinds:
            cells += [f"{row['bandwidth_share']:.0%}", f"{row['prefill_tokens_a_second']:,.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Tokens a second by depth, a line a window; the bound dashed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for index, window in enumerate(dict.fromkeys(row["window"] for row in rows)):
        own = [row for row in rows if row["window"] == window]
        depths, name = [row["depth"] for row in own], "full attention" if window is None else f"window {window}"
        axis.plot(
            depths, [row["bound_tokens_a_second"] for row in own], "--", color=f"C{index}", label=f"{name}, bound"
        )
        if "tokens_a_second" in rows[0]:
            axis.plot(depths, [row["tokens_a_second"] for row in own], "o-", color=f"C{index}", label=name)
    ticks = sorted({row["depth"] for row in rows})
    axis.set(xlabel="tokens of context", ylabel="tokens a second, largest batch", xscale="log", yscale="log")
    axis.set_xticks(ticks, [f"{depth:,}" for depth in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)
    fig.savefig(path, dpi=150)
    plt.close(fig)
