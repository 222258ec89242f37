# SPDX-License-Identifier: Apache-2.0
"""examples/mismatch/run.sh on a CPU: rationales and answers of two states to a tiny model's test problems."""

import gzip
import json

import pyarrow.parquet as pq
import pytest
from parrot import parrot
from recipes import ROWS, recipe, write_data
from transformers import AutoTokenizer

from swarr_verl.prompts import math_prompt
from swarr_verl.trajectories import digest, prompt_text

pytestmark = pytest.mark.timeout(600)


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
    rows = pq.read_table(tmp_path / "work" / "w8" / "mismatch.parquet").to_pylist()
    assert [row["file"] for row in rows] == ["rationales"] * ROWS + ["eval_sft_SA_in_SA"] * ROWS
    assert (tmp_path / "work" / "w8" / "mismatch.png").exists()
