# SPDX-License-Identifier: Apache-2.0
"""Real vLLM against transformers, greedy, token for token: every family, all layers sliding and hybrids.

vLLM loads the SA checkpoint with the overrides that the rollout gives it, or the converted one, and serves prompts
from 1 token to 8 windows past several windows of decoding. transformers (eager, fp32) then reads each answer: if its
choice after every prefix is vLLM's token, both generate the same.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from swarr_verl.convert import convert
from swarr_verl.families import apply_window, config_windows, window_keys
from swarr_verl.window import WindowSpec

pytest.importorskip("vllm", reason="vLLM is not installed")

WINDOW, NEW, PROMPTS = 16, 40, (1, 15, 16, 17, 60, 130)
HYBRID = "full_every:2"
SA, CONVERTED = "SA checkpoint", "converted checkpoint"
CASES = [  # family, layers, what vLLM loads, prefix caching
    ("qwen2", "all", SA, True),
    ("qwen2", HYBRID, CONVERTED, True),
    ("qwen3", "all", CONVERTED, False),
    ("qwen3", (0, 3), SA, True),
    ("qwen3_moe", "all", SA, True),
    ("mistral", "all", CONVERTED, True),
    ("mistral", HYBRID, SA, False),
    ("ministral", HYBRID, SA, True),
    ("llama", "all", SA, True),
    ("llama", HYBRID, CONVERTED, True),
    ("phi3", "all", SA, True),
    ("olmo2", "all", CONVERTED, True),
    ("olmo3", HYBRID, SA, True),
]
GENERATE = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    path, prompts, new, options = json.loads(sys.stdin.read())
    llm = LLM(path, dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=4, block_size=16,
              max_num_batched_tokens=64, disable_log_stats=True, gpu_memory_utilization=0.1,
              kv_cache_memory_bytes=1 << 28, **options,
              worker_extension_cls="swarr_verl.rollout_worker.SwarrWorkerExtension")
    windows = {layer: found for layer, found in llm.collective_rpc("swarr_windows")[0]}
    # No min_tokens: with it vLLM masks EOS, ignore_eos or not, and a plain argmax does not.
    sampling = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
    outs = [llm.generate([{"prompt_token_ids": p} for p in prompts], sampling, use_tqdm=False) for _ in range(2)]
    tokens = [[list(o.outputs[0].token_ids) for o in out] for out in outs]
    print("ANSWER" + json.dumps([tokens, windows]))
"""


def vllm_answers(path: Path, prompts: list[list[int]], options: dict) -> tuple[list[list[list[int]]], dict]:
    """Tokens of two passes over the prompts (the second hits the prefix cache, if any), and each layer's windows.

    In a process. Prompts of 130 tokens are prefilled in chunks of 64, which cut inside the window.
    """
    script = path / "generate.py"  # a file: vLLM's workers import the main module again
    script.write_text(GENERATE)
    call = json.dumps([str(path), prompts, NEW, options])
    run = subprocess.run([sys.executable, script], input=call, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-8000:]
    tokens, windows = json.loads(run.stdout.split("ANSWER")[1].splitlines()[0])
    return tokens, {int(layer): found for layer, found in windows.items()}


def generates(model, prompts: list[list[int]], answers: list[list[int]]) -> list[bool]:
    """Whether greedy decoding of `model` from each prompt is its answer."""
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        found.append(logits.argmax(-1).tolist() == answer)
    return found


def eager(path: Path, config):
    return AutoModelForCausalLM.from_pretrained(path, config=config, dtype=torch.float32, attn_implementation="eager")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("family", "layers", "loaded", "prefix_caching"), CASES)
def test_vllm_is_transformers_token_for_token(family, layers, loaded, prefix_caching, tmp_path, record):
    record(family, "vLLM", layers)
    dense, converted = tiny.checkpoint(tmp_path / "sa", family, layers=4), tmp_path / "converted"
    convert(str(dense), converted, WindowSpec(WINDOW, layers))
    config = AutoConfig.from_pretrained(converted)
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(3, config.vocab_size, (n,), generator=generator).tolist() for n in PROMPTS]

    overrides = window_keys(config) if loaded == SA or "architectures" in window_keys(config) else {}
    options = {"hf_overrides": overrides, "enable_prefix_caching": prefix_caching}
    (first, second), windows = vllm_answers(dense if loaded == SA else converted, prompts, options)
    assert windows == {layer: [window, window] for layer, window in enumerate(config_windows(config))}
    assert first == second
    assert generates(eager(converted, config), prompts, first) == [True] * len(prompts)
    source = AutoConfig.from_pretrained(dense)
    controls = [apply_window(source, WindowSpec(other, layers)) for other in (WINDOW - 1, WINDOW + 1)]
    for control in [*controls, source]:  # they must diverge
        assert not all(generates(eager(dense, control), prompts, first))
