# SPDX-License-Identifier: Apache-2.0
"""Real vLLM against transformers, greedy: every family, all layers sliding and hybrids; fp32 on a CPU, bf16 on a GPU.

vLLM loads the SA checkpoint with the overrides that the rollout gives it, or the converted one, and serves prompts
from 1 token to 8 windows past several windows of decoding. transformers in fp64 then reads each answer. A token may
fall short of its best logit by twice the error of transformers' own eager logits in the dtype that vLLM ran in, and
by no more: in fp32 on a CPU, 1e-5 or so, that is token for token. Other windows must fall further short than that.
"""

import functools
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from swarr_verl.convert import convert
from swarr_verl.families import FAMILIES, apply_window, config_windows, window_keys
from swarr_verl.window import WindowSpec

pytest.importorskip("vllm", reason="vLLM is not installed")

DTYPE = "bfloat16" if torch.cuda.is_available() else "float32"  # vLLM's kernels for fp32 on a GPU multiply in tf32
WINDOW, NEW, PROMPTS = 16, 40, (1, 15, 16, 17, 60, 130)  # 16 is vLLM's block, too
HYBRIDS = ("full_every:4", (0, 2))
SA, CONVERTED = "SA checkpoint", "converted checkpoint"
EVERY = [
    (family, layers) for family, it in FAMILIES.items() for layers in ("all", *(HYBRIDS if it.has_hybrids else ()))
]
# What is loaded and the prefix cache alternate: both with all, across the families.
CASES = [(*case, (SA, CONVERTED)[i % 2], i % 3 > 0) for i, case in enumerate(EVERY)]


class Vllm:
    """The process of vllm_process.py; one that ended in an error is started again for the next case."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.log, self.environment = folder / "vllm.log", os.environ | environment
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        script = Path(__file__).with_name("vllm_process.py")
        with open(self.log, "w") as log:
            command, pipe = [sys.executable, script], subprocess.PIPE
            pipes = dict(stdin=pipe, stdout=pipe, stderr=log)
            self.process = subprocess.Popen(command, **pipes, text=True, env=self.environment)
        self.answers: queue.Queue[dict] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process, self.answers), daemon=True).start()

    def _read(self, process: subprocess.Popen, answers: queue.Queue) -> None:
        for line in process.stdout:
            if line.startswith("ANSWER"):
                answers.put(json.loads(line.removeprefix("ANSWER")))
        process.wait()
        answers.put({"error": self.log.read_text()[-6000:]})

    def answer(self, path: Path, prompts: list[list[int]], **options) -> dict:
        if self.process is None or self.process.poll() is not None:
            self.start()
        call = {"path": str(path), "prompts": prompts, "new": NEW, "options": {"dtype": DTYPE, **options}}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        found = self.answers.get(timeout=280)
        assert "error" not in found, found["error"]
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    served = Vllm(tmp_path_factory.mktemp("vllm"))
    yield served
    served.stop()


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """SA checkpoint of a family, of 4 layers."""
    # In bf16 a router chooses other experts than in fp64, which is no rounding error: give it nothing to choose.
    extra = {"qwen3_moe": {"num_experts_per_tok": 4}} if DTYPE == "bfloat16" else {}
    make = functools.partial(tiny.checkpoint, layers=4)
    return functools.cache(
        lambda family, **shape: make(tmp_path_factory.mktemp(family), family, **extra.get(family, {}), **shape)
    )


def eager(path: Path, config):
    kernels = dict(attn_implementation="eager", experts_implementation="eager")
    return AutoModelForCausalLM.from_pretrained(path, config=config, dtype=getattr(torch, DTYPE), **kernels)


def logits(model, prompts: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    """Of each token of each answer, (tokens, vocabulary), in fp64."""
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            read = model(torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        found.append(read.double())
    return torch.cat(found)


def shortfall(model, prompts: list[list[int]], answers: list[list[int]]) -> float:
    """How far the answers' tokens fall short of the model's best ones, at most; in logits, 0 if all are the best."""
    found, tokens = logits(model, prompts, answers), torch.tensor([token for answer in answers for token in answer])
    return (found.max(-1).values - found.gather(-1, tokens[:, None])[:, 0]).max().item()


def assert_vllm_is_transformers(vllm, folder, dense, layers, window, loaded, record, lengths=PROMPTS, **options):
    """Serve, read, and hold the controls against it. Returns vLLM's answer."""
    converted = folder / "converted"
    convert(str(dense), converted, WindowSpec(window, layers))
    config, source = AutoConfig.from_pretrained(converted), AutoConfig.from_pretrained(dense)
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(3, config.vocab_size, (n,), generator=generator).tolist() for n in lengths]
    overrides = window_keys(config) if loaded == SA or "architectures" in window_keys(config) else {}
    found = vllm.answer(dense if loaded == SA else converted, prompts, hf_overrides=overrides, **options)

    wanted = {str(layer): [width, width] for layer, width in enumerate(config_windows(config))}
    assert found["windows"] == wanted
    (first, second), model = found["tokens"], eager(converted, config)
    low = logits(model, prompts, first)
    exact = model.double()
    allowed = 2 * (low - logits(exact, prompts, first)).abs().max().item()
    short = max(shortfall(exact, prompts, answers) for answers in (first, second))
    record("allowed", allowed), record("shortfall", short)
    assert short <= allowed
    if DTYPE == "float32":
        assert first == second and allowed < 1e-3
    longest = max(lengths) + NEW
    for other in {window - 1, window + 1, None} - {0}:  # controls
        control = apply_window(source, WindowSpec(other, layers)) if other else source
        seen = shortfall(eager(dense, control).double(), prompts, first)
        if min(window, longest) == min(other or longest, longest):
            assert seen <= allowed, "no sequence outgrows the window: the same model"
        else:
            assert seen > allowed, other
    return found


@pytest.fixture
def note(record, record_property):
    """Note family and pattern for the table in examples/window; returns what notes the numbers."""

    def noted(family, layers):
        record(family, "vLLM", layers)
        return record_property

    return noted


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("family", "layers", "loaded", "prefix_caching"), CASES)
def test_every_family_and_pattern(family, layers, loaded, prefix_caching, vllm, dense, tmp_path, note):
    """Prompts of 130 tokens are prefilled in chunks of 64, which cut inside the window."""
    options = dict(enable_prefix_caching=prefix_caching)
    record = note(family, layers)
    assert_vllm_is_transformers(vllm, tmp_path, dense(family), layers, WINDOW, loaded, record, **options)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("window", [1, 2, 15, 17, 32, 33, 300])
@pytest.mark.parametrize(("family", "layers"), [("qwen2", "all"), ("qwen3", (0, 2)), ("llama", "full_every:4")])
def test_windows_around_the_block_and_the_length(family, layers, window, vllm, dense, tmp_path, note):
    """vLLM's cache has blocks of 16 tokens; no sequence reaches 300."""
    record = note(family, layers)
    assert_vllm_is_transformers(vllm, tmp_path, dense(family), layers, window, CONVERTED, record)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("family", "layers", "blocks", "lengths"),
    [  # the least number of blocks that vLLM takes, and prompts that all fit in at first
        ("qwen2", "all", 9, (17, 16, 15, 14, 13, 12)),
        ("qwen2", (0, 2), 24, (70, 60, 50, 40, 30, 20)),
        ("mistral", "full_every:4", 36, (70, 60, 50, 40, 30, 20)),
    ],
)
def test_preempted_sequences(family, layers, blocks, lengths, vllm, dense, tmp_path, note):
    """A cache too small for what runs at once: vLLM drops sequences and computes them again."""
    options = dict(num_gpu_blocks_override=blocks, enable_prefix_caching=False)
    case = (vllm, tmp_path, dense(family), layers, WINDOW, SA, note(family, layers), lengths)
    assert assert_vllm_is_transformers(*case, **options)["preemptions"] > 0


GRAPHS = dict(
    enforce_eager=False,
    compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
    enable_prefix_caching=False,
)


def graphs_case(vllm, folder, dense, window, head_dim, note):
    """Two dozen sequences of up to 58 + 40 tokens that decode together."""
    source = dense("qwen2", hidden_size=4 * head_dim)
    return vllm, folder, source, "all", window, SA, note("qwen2", "all"), tuple(range(12, 60, 2))


@pytest.mark.timeout(400)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs")
@pytest.mark.parametrize("window", [100, 40, 256])
@pytest.mark.parametrize("head_dim", [64, 128])  # the fault that is mended strikes 64
def test_captured_steps_of_sequences_shorter_than_the_window(head_dim, window, vllm, dense, tmp_path, note):
    """None outgrows the window, some do, and it is max_model_len (swarr_verl/vllm_flash.py)."""
    assert_vllm_is_transformers(*graphs_case(vllm, tmp_path, dense, window, head_dim, note), **GRAPHS)


@pytest.mark.timeout(400)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs")
def test_control_vllm_without_the_plugin_fails_there(dense, tmp_path, note):
    """Where FlashAttention is version 3. Once this fails, vLLM has mended it: delete swarr_verl/vllm_flash.py."""
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("not Hopper: no FlashAttention 3")
    alone = Vllm(tmp_path, VLLM_PLUGINS="none")
    try:
        with pytest.raises(AssertionError, match="<="):
            assert_vllm_is_transformers(*graphs_case(alone, tmp_path, dense, 100, 64, note), **GRAPHS)
    finally:
        alone.stop()
