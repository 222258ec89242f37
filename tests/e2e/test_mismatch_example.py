# SPDX-License-Identifier: Apache-2.0
"""examples/mismatch on a CPU with a tiny model: need of rationales and answers, by both readers; SFT on half of it."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from parrot import parrot
from recipes import ROWS, recipe, write_data
from scripts import EXAMPLES
from transformers import AutoTokenizer

from swarr_verl.prompts import math_prompt
from swarr_verl.trajectories import digest, prompt_text

pytestmark = pytest.mark.timeout(900)


def test_rationales_beside_answers(tmp_path):
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    problems = [json.loads(line)["question"] for line in (tmp_path / "data" / "test.jsonl").read_text().splitlines()]
    asked = [digest(prompt_text(tokenizer, math_prompt(problem))) for problem in problems]
    lines = [{"input": one, "output": "It is \\boxed{7}.", "acc": 1.0, "truncated": False} for one in asked]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"input": "of MATH-500"}])
    (tmp_path / "results").mkdir()
    for name in ("sft_SA_in_SA", "sft_SA_in_SA_x8"):  # samples are left out
        (tmp_path / "results" / f"eval_{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    run = recipe(
        tmp_path, "run", "../mismatch/run.sh", ["--stride", "4"], RESULTS=str(tmp_path / "results"), WINDOW="8"
    )
    assert run.code == 0, run.output[-3000:]
    rows = pq.read_table(tmp_path / "work" / "results" / "w8" / "mismatch.parquet").to_pylist()
    assert [row["file"] for row in rows] == ["rationales"] * ROWS + ["eval_sft_SA_in_SA"] * ROWS
    written = json.loads((tmp_path / "work" / "results" / "w8" / "mismatch.json").read_text())["at_equal_length"]
    assert [(row["group"], row["against"]) for row in written] == [("eval_sft_SA_in_SA", "rationales")]
    assert (tmp_path / "work" / "results" / "w8" / "mismatch.png").exists()


def test_a_half_of_low_need(tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    parrot(tmp_path / "model")
    write_data(tmp_path / "data")
    knobs = {"HALVES": "low", "SEEDS": "1", "WINDOW": "16", "STRIDE": "4"}
    run = recipe(tmp_path, "halves", "../mismatch/halves.sh", ["trainer.total_training_steps=1"], **knobs)
    assert run.code == 0, run.output[-3000:]
    assert "finished; missing: none" in run.output
    kept = pq.read_table(tmp_path / "work" / "data" / "low_1" / "sft.parquet")
    assert len(kept) < ROWS
    (row,) = json.loads((tmp_path / "work" / "results" / "halves.json").read_text())["rows"]
    assert (row["half"], row["SA"]["problems"], row["SWA"]["problems"]) == ("low", ROWS, ROWS) and row["gap"]


def test_both_readers_find_the_same_need(tmp_path, checkpoint):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    messages = [
        [{"role": "user", "content": f"What is {i} + {7 - i}?"}, {"role": "assistant", "content": "It is seven. " * i}]
        for i in range(1, 4)
    ]
    pq.write_table(pa.table({"messages": messages}), tmp_path / "sft.parquet")
    engine = {"dtype": "float32", "enforce_eager": True, "block_size": 16, "kv_cache_memory_bytes": 2**26}
    command = [str(EXAMPLES / "mismatch" / "speed.py"), str(tmp_path / "sft.parquet"), "--model", str(checkpoint)]
    command += ["--window=8", "--stride=4", f"--engine={json.dumps(engine)}", "--out", str(tmp_path / "speed.json")]
    run = runs.run(tmp_path, "speed", command, VLLM_ENABLE_V1_MULTIPROCESSING="0")
    assert run.code == 0, run.output[-3000:]
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["transformers"]["tokens"] == found["vllm"]["tokens"] > 24
    assert found["vllm"]["need"] == pytest.approx(found["transformers"]["need"], abs=1e-5)
    assert abs(found["vllm"]["need"]) > 1e-4
