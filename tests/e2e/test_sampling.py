# SPDX-License-Identifier: Apache-2.0
"""prepare selfdistill with real vLLM: SIGKILL after a batch, go on, finish."""

import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import runs
import torch
from parrot import RIGHT, TEXTS, parrot

from swarr_verl.convert import convert
from swarr_verl.datasets_table import Example
from swarr_verl.outputs import RL, rl_row
from swarr_verl.prompts import math_prompt
from swarr_verl.window import WindowSpec

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.timeout(600)
PROBLEMS, SAMPLES, BATCH = 32, 4, 4
DTYPE = "bfloat16" if torch.cuda.is_available() else "float32"
ENGINE = {"dtype": DTYPE, "enforce_eager": True, "block_size": 16, "kv_cache_memory_bytes": 1 << 26}


@pytest.fixture
def command(tmp_path) -> list[str]:
    convert(str(parrot(tmp_path / "parrot")), tmp_path / "model", WindowSpec(16))
    rows = [rl_row(Example(f"{i} + {7 - i}?", "7"), "swarr/test", "train", i) for i in range(PROBLEMS)]
    parquet.write_table(pa.Table.from_pylist(rows, RL), tmp_path / "rl_train.parquet")
    return [
        *(
            "-m",
            "swarr_verl",
            "prepare",
            "selfdistill",
            f"--from={tmp_path}/rl_train.parquet",
            f"--model={tmp_path}/model",
        ),
        *(f"--out={tmp_path}", f"--samples={SAMPLES}", f"--batch={BATCH}", "--temperature=1", "--prompt-tokens=128"),
        *("--response-tokens=32", "--gpu-memory-utilization=0.1", f"--engine={json.dumps(ENGINE)}"),
    ]


def test_killed_sampling_goes_on(command, tmp_path):
    file = tmp_path / "samples.jsonl"
    killed = runs.run(tmp_path, "killed", command, until=lambda: file.exists() and file.read_bytes().count(b"\n") > 1)
    assert killed.code < 0, killed.output[-3000:]
    assert "[swarr] vLLM confirms the window: 16 (layers 0-2)" in killed.output
    drawn = file.read_bytes()
    drawn = drawn[: drawn.rindex(b"\n") + 1]
    assert 1 < drawn.count(b"\n") <= PROBLEMS and not (tmp_path / "sft.parquet").exists()

    one_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # starts sooner
    resumed = runs.run(tmp_path, "resumed", command, **one_process)
    assert resumed.code == 0, resumed.output[-3000:]
    content = file.read_bytes()
    assert content.startswith(drawn)
    _, *lines = map(json.loads, content.splitlines())
    assert [line["row"] for line in lines] == list(range(PROBLEMS))
    samples = [one for line in lines for one in line["samples"]]
    assert len(samples) == PROBLEMS * SAMPLES and {one["text"] for one in samples} == set(TEXTS)
    assert {one["finish_reason"] for one in samples} == {"stop"}
    assert 0.25 < sum(one["acc"] for one in samples) / len(samples) < 0.75

    wanted = []
    for i, line in enumerate(lines):
        right = [one["text"] for one in line["samples"] if one["text"] in RIGHT]
        wanted += [(math_prompt(f"{i} + {7 - i}?"), text) for text in dict.fromkeys(right)]
    rows = [row["messages"] for row in parquet.read_table(tmp_path / "sft.parquet").to_pylist()]
    assert [(prompt, response["content"]) for *prompt, response in rows] == wanted
