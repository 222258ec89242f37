# SPDX-License-Identifier: Apache-2.0
"""bench --dry: the arithmetic of decoding, its table, and what cannot be predicted."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from scripts import load
from transformers import AutoConfig, AutoModelForCausalLM

from swarr_verl.__main__ import main
from swarr_verl.bench import SHAPES, Device, predicted, shape
from swarr_verl.cost import Cost

DRY = ["--dry", "--bandwidth", "1000", "--tflops", "100", "--memory", "8"]
HOST = 37e-6  # seconds, the default


@pytest.mark.parametrize("family", ["qwen2", "qwen3_moe"])
@pytest.mark.parametrize("tied", [True, False])
def test_bytes_of_a_real_model(family, tied):
    config = tiny.config(family)
    config.tie_word_embeddings = tied
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    cost = Cost.of(config, [9, None, None])
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    table = model.get_input_embeddings().weight
    assert cost.weights == size
    assert cost.read == size - (0 if tied else table.numel() * table.element_size())
    assert cost.step(100, 3) == cost.read + 3 * cost.token * (9 + 100 + 100)
    assert cost.kept(100) == cost.token * (32 + 112 + 112)
    assert cost.sequences(100, cost.weights + 2.5 * cost.kept(100)) == 2
    assert cost.sequences(100, cost.weights / 2) == 0
    sparse = sum(value.numel() for name, value in model.named_parameters() if ".experts." in name)
    assert (sparse > 0) == (family == "qwen3_moe")
    idle = sparse * (1 - config.num_experts_per_tok / config.num_experts) if sparse else 0
    assert 2 * (cost.products + idle) == cost.read
    reading = cost.step(100, 3) + 14 * 4 * 3 * config.vocab_size
    device = reading / 1e9 + 6 * cost.products / 1e12
    assert cost.seconds(100, 3, 1e9, 1e12, 0.3 * device) == pytest.approx(device)
    assert cost.seconds(100, 3, 1e9, 1e12, 0.4 * device) == pytest.approx(1.2 * device), "Python is slower"


def test_shapes_are_those_of_qwen():
    for name, weights in (("0.5b", 494e6), ("1.5b", 1544e6), ("7b", 7616e6)):  # parameters on the models' cards
        cost = Cost.of(shape(name), [None] * SHAPES[name][2])
        assert cost.weights / 2 == pytest.approx(weights, rel=2e-3)


def test_dry(tmp_path, capsys):
    assert main(["bench", "0.5b", "--window", "512", "--depth", "4096", "8192", "--out", str(tmp_path), *DRY]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [(row["depth"], row["window"]) for row in rows] == [(4096, None), (4096, 512), (8192, None), (8192, 512)]
    full, sliding = rows[2:]
    assert full["kv_bytes_a_sequence"] == 8192 * 24 * 2 * 2 * 64 * 2
    cost = Cost.of(shape("0.5b"), [512] * 24)
    sequences = sliding["sequences"]
    assert sliding["predicted_ms_a_step"] == pytest.approx(1e3 * cost.seconds(8192, sequences, 1e12, 1e14, HOST))
    assert cost.seconds(8192, sequences, 1e12, 1e14, HOST) > cost.seconds(8192, sequences, 1e12, 1e14, 0)
    assert sliding["bound_ms_a_step"] == pytest.approx(cost.step(8192, sliding["sequences"]) / 1e9)
    table = (tmp_path / "bench.md").read_text()
    assert capsys.readouterr().out.endswith(table) and "| 8,192 | 512 |" in table
    assert (tmp_path / "bench.png").stat().st_size > 10_000


ROLLOUT = Path(__file__).parents[2] / "examples" / "rollout"


def measured(name, run="bench_h100"):
    return json.loads((ROLLOUT / "results" / run / f"{name}.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("run", "name", "missed"),
    [
        ("bench_h100", "7b", []),
        # Full attention's kernel is slow with 2 KV heads; and vLLM's Python is, by a third, most of the time.
        (
            "bench_h100",
            "1.5b",
            [(2048, 8192), (None, 32768), (2048, 32768), (1024, 32768), (None, 131072), (2048, 131072)],
        ),
        ("bench_h100_runner2", "7b", []),
        ("bench_h100_runner2", "1.5b", [(None, 131072)]),
    ],
)
def test_prediction_agrees_with_what_was_measured(run, name, missed):
    found = []
    for row in measured(name, run):
        cost = Cost.of(shape(name), [row["window"]] * SHAPES[name][2])
        device = Device(row["copy_bandwidth"], row["product_flops"], row["host_seconds"])
        step = predicted(cost, round(row["mean_context"]), row["sequences"], device)
        if step["predicted_ms_a_step"] != pytest.approx(row["ms_a_step"], rel=0.15):
            found.append((row["window"], row["depth"]))
            assert step["predicted_ms_a_step"] < row["ms_a_step"]
        if row["window"] in (1024, 2048):
            assert step["bound_ms_a_step"] < 0.85 * row["ms_a_step"], "reading alone does not tell it"
    assert found == missed, "as the page says"


@pytest.mark.parametrize(("name", "missed"), [("7b", []), ("1.5b", [(2048, 32768)])])
def test_within_a_hundredth_of_stock_vllm(name, missed):
    ours = {(row["window"], row["depth"]): row["ms_a_step"] for row in measured(name)}
    stock = {(row["window"], row["depth"]): row["ms_a_step"] for row in measured(f"stock_{name}")}
    assert [key for key in stock if ours[key] != pytest.approx(stock[key], rel=0.01)] == missed, "as the page says"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/model", "--window", "64", *DRY], "(?s)MODEL /no/such/model: .*Give a checkpoint"),
        (["0.5b", "--window", "64", "--steps", "1"], "--steps: give at least 2"),
        (["0.5b", "--window", "64", "--dry"], "give --bandwidth.*--tflops.*--memory"),
        (["7b", "--window", "64", *DRY], "0 sequences fit at window None. Ask for less"),
        (["0.5b", "--window", "64", "--sequences", "100000", *DRY], "--depth 4096: .* sequences fit at window None"),
        (["{tmp}/converted", "--window", "64", *DRY], "has a window already"),
        (["{tmp}/unknown", "--window", "64", *DRY], "a window is not supported for the family 'gpt2'"),
    ],
)
def test_what_cannot_be_predicted(tmp_path, arguments, message):
    config = tiny.config("mistral")
    config.sliding_window = 9
    config.save_pretrained(tmp_path / "converted")
    AutoConfig.for_model("gpt2").save_pretrained(tmp_path / "unknown")
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit, match=message):
        main(["bench", *arguments, "--out", str(tmp_path / "out")])


def test_an_engine_that_fails_is_told(tmp_path, monkeypatch):
    engine = tmp_path / "python"
    engine.write_text(
        '#!/bin/sh\necho starting\necho \'{"bandwidth": 1e9, "flops": 1e12}\'\necho no memory >&2\nexit 3\n'
    )
    engine.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(engine))
    with pytest.raises(SystemExit, match=r"(?s)engine failed \(exit code 3\).*engine.log:\nno memory"):
        main(["bench", "0.5b", "--window", "64", "--host", "9", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "bench.json").exists()


def test_rows_outlive_the_engine_of_a_later_window(tmp_path, monkeypatch):
    speed = {"ms_a_step": 2.0, "tokens_a_second": 500.0, "prefill_tokens_a_second": 9000.0}
    row = {"window": None, "depth": 4096, "sequences": 1, "mean_context": 4000.0, **speed}
    engine = tmp_path / "python"
    engine.write_text(
        f"#!/bin/sh\n[ ! -e {tmp_path}/twice ] || exit 3\n"
        f"[ ! -e {tmp_path}/once ] || touch {tmp_path}/twice\ntouch {tmp_path}/once\n"
        f"echo '{{\"bandwidth\": 1e9, \"flops\": 1e12}}'\necho '{json.dumps(row)}'\n"
    )
    engine.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(engine))
    with pytest.raises(SystemExit, match=r"engine failed \(exit code 3\)"):
        main(["bench", "0.5b", "--window", "64", "--depth", "4096", "--out", str(tmp_path / "out")])
    (found,) = json.loads((tmp_path / "out" / "bench.json").read_text())["rows"]
    assert found["tokens_a_second"] == 500.0 and found["bandwidth_share"] > 0
    assert found["host_seconds"] == 2e-3 and found["predicted_ms_a_step"] >= 2, "the first engine was the host's"
    assert "| 4,096 | full |" in (tmp_path / "out" / "bench.md").read_text()


def test_cache_is_filled_for_what_decodes():
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from swarr_verl.bench_engine import DECODE, PREFILL
    from swarr_verl.filled_cache import FilledCache

    connector = object.__new__(FilledCache)
    connector.connector_scheduler = SimpleNamespace(get_num_new_matched_tokens=lambda request, n: (99 - n, False))
    found = {
        kind: connector.get_num_new_matched_tokens(SimpleNamespace(request_id=f"{kind} 1"), 9)
        for kind in (DECODE, PREFILL)
    }
    assert found == {DECODE: (90, False), PREFILL: (0, False)}
    layers = {name: torch.zeros(2, 4, 16, 1, 8, dtype=torch.bfloat16) for name in "ab"}
    connector.register_kv_caches(layers)
    assert all(0.7 < layer.float().std() < 1.3 for layer in layers.values())


class Clock:
    """vLLM's engine in place of a real one: steps of 1 ms; where requests end, and once more, 1000 ms."""

    def __init__(self, slow: int) -> None:
        self.now, self.asked, self.made, self.turns, self.slow = 7.0, [], 0, 0, slow
        self.engine_core = self  # whose outputs are those of single steps

    def sleep(self, level: int) -> None:
        assert level == 0

    def wake_up(self, tags: list[str]) -> None:
        assert tags == ["scheduling"]

    def add_request(self, name: str, prompt: dict, sampling: "SimpleNamespace") -> None:
        self.asked.append(name)
        self.length, self.most = len(prompt["prompt_token_ids"]), sampling.max_tokens

    def has_unfinished_requests(self) -> bool:
        return self.made < self.most

    def step(self) -> None:
        self.get_output()

    def get_output(self) -> SimpleNamespace:
        """In turn nothing but statistics, and a token of each."""
        self.turns += 1
        if self.turns % 2:
            return SimpleNamespace(outputs=[], timestamp=self.now)
        self.made += 1
        self.now += 1e-3 + 0.999 * (self.made in (self.slow, self.most))
        return SimpleNamespace(outputs=self.asked, timestamp=self.now)


@pytest.mark.parametrize("slow", [12, 0])
def test_a_pause_and_the_end_of_requests_are_not_timed(slow):
    """At the end vLLM visits each block, dropped ones too: at 131k tokens that took longer than the steps."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from swarr_verl import bench_engine

    bench, clock = object.__new__(bench_engine.Bench), Clock(slow)
    bench.steps, bench.engine = 8, clock
    found = bench._decode(100, 3)
    assert found["ms_a_step"] == pytest.approx(1) and found["tokens_a_second"] == pytest.approx(3000)
    assert found["mean_ms_a_step"] == pytest.approx(1 + 999 / 8 * (slow == 12))
    assert clock.length == 100 and clock.made == clock.most == bench._new()
    assert found["mean_context"] == 112


def test_sequences_that_wait_are_told():
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from swarr_verl import bench_engine

    bench, clock = object.__new__(bench_engine.Bench), Clock(0)
    bench.steps, bench.engine = 8, clock
    clock.add_request = lambda name, prompt, sampling: clock.asked.append(name) if len(clock.asked) < 2 else None
    clock.most = 99
    with pytest.raises(RuntimeError, match="did not decode all of 3 sequences"):
        bench._decode(100, 3)


def test_kernels_of_a_step():
    profile = load("rollout/profile_decode.py")
    events = [{"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 9e9}]
    for step in range(2):  # of 10 ms, 2 layers: 2 ms of attention and 1 ms of a product each, 4 ms idle
        for layer in range(2):
            start = 1e4 * step + 3e3 * layer
            events.append({"cat": "kernel", "name": "flash::FlashAttnFwdSm90", "ts": start, "dur": 2e3})
            events.append({"cat": "kernel", "name": "gemm", "ts": start + 2e3, "dur": 1e3})
    events.append({"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "ts": 6e3, "dur": 1e3})
    rows = profile.kernels(events, layers=2)
    copy = ("Memcpy HtoD (Pinned -> Device)", 0.5, 0.5)
    assert rows == [("flash::FlashAttnFwdSm90", 4.0, 2.0), ("gemm", 2.0, 2.0), copy, ("idle", 1.5, 0.0)]
    assert profile.parts(rows, layers=2)["copies"] == 0.5
    idle = profile.gaps(events[::-1], layers=2)
    assert idle[0] == (copy[0], "flash::FlashAttnFwdSm90", 1.5) and sum(ms for _, _, ms in idle) == 1.5


def test_parts_of_a_step_are_the_pages():
    rollout = Path(__file__).parents[2] / "examples" / "rollout"
    parts = load("rollout/profile_decode.py").parts
    found = []
    for name in ("7b_2048", "1.5b_2048"):
        lines = (rollout / "results" / "profile_h100" / f"profile_{name}.md").read_text().splitlines()[4:]
        cells = [line.strip("| ").rsplit(" | ", 2) for line in lines]
        found.append(parts([(name, float(ms), float(calls)) for name, ms, calls in cells], layers=28))
    page = (rollout / "README.md").read_text()
    for part, ms in found[0].items():
        assert f"| {part} | {ms:.1f} | {found[1][part]:.1f} |" in page
    assert found[0]["whole"] == pytest.approx(35.5, abs=0.05)


def test_an_empty_hosts_rows_are_the_pages():
    of = {(row["window"], row["depth"]): row for row in measured("1.5b", "bench_h100_alone")}
    depths = (8192, 32768, 131072)
    for name, key in (("measured, median", "ms_a_step"), ("measured, mean", "mean_ms_a_step")):
        cells = [f"{of[2048, depth][key]:.1f}" for depth in depths]
        assert f"| {name} | {' | '.join(cells)} |" in (ROLLOUT / "README.md").read_text()
    gains = [of[2048, depth]["tokens_a_second"] / of[None, depth]["tokens_a_second"] for depth in depths]
    assert [round(gain, 1) for gain in gains] == [3.0, 12.2, 52.5]


def test_the_second_runners_rows_are_the_pages():
    page = (ROLLOUT / "README.md").read_text()
    gains = {}
    for name, label in (("7b", "7B"), ("1.5b", "1.5B")):
        rows = {(row["window"], row["depth"]): row for row in measured(name, "bench_h100_runner2")}
        for (window, depth), row in rows.items():
            gain = row["tokens_a_second"] / rows[None, depth]["tokens_a_second"]
            begins = f"| {label} | {depth:,} | {window or 'full'} | {row['sequences']} | {row['bound_ms_a_step']:.1f} "
            (line,) = (line for line in page.splitlines() if line.startswith(begins))
            assert f" {row['ms_a_step']:.1f} | {row['tokens_a_second']:,.0f} |" in line
            assert window is None or f" {gain:.2f} " in line
            gains[label, window, depth] = gain
    best = [gains[label, window, 32768] for label in ("1.5B", "7B") for window in (4096, 2048)]
    assert [round(gain, 1) for gain in best] == [7.8, 13.7, 7.2, 11.9], "as the aims' paragraph says"


def test_products_of_a_step(tmp_path, monkeypatch, capsys):
    products = load("rollout/products.py")
    for name in SHAPES:
        counted = sum(inputs * outputs * times for inputs, outputs, times in products.sizes(name).values())
        norms_and_biases = 2e-4  # of the parameters, that Cost counts too
        assert counted == pytest.approx(Cost.of(shape(name), [None] * SHAPES[name][2]).products, rel=norms_and_biases)
    monkeypatch.setattr(products, "READ", 1)
    monkeypatch.setitem(products.shape.__globals__["SHAPES"], "tiny", (64, 128, 2, 4, 2))
    monkeypatch.setattr(
        "sys.argv", ["products.py", "tiny", "--sequences", "1", "8", "--out", str(tmp_path / "rows.json")]
    )
    products.main()
    few, more = json.loads((tmp_path / "rows.json").read_text())
    assert (few["sequences"], more["sequences"]) == (1, 8)
    for row in (few, more):
        assert row["ms"] == pytest.approx(sum(row[name] for name in ("qkv", "o", "gate_up", "down", "logits")))
        assert row["tflops"] == pytest.approx(
            2e-9 * row["sequences"] * (2 * (64 * 128 + 64 * 64 + 3 * 64 * 128) + 64 * 151936) / row["ms"]
        )
    assert capsys.readouterr().out.startswith("| sequences | qkv |")
