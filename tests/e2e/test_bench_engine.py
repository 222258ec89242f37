# SPDX-License-Identifier: Apache-2.0
"""bench with real vLLM on a CPU: an engine for each window, a row for each depth."""

import json

import pytest
import runs
import torch

from swarr_verl.cost import kept_tokens

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the engine's options are a CPU's"),
]
CACHE = 2**24  # bytes: 2 * 2 * 32 * 4 = 512 a token in each of 3 layers
ENGINE = {"dtype": "float32", "enforce_eager": True, "block_size": 16, "kv_cache_memory_bytes": CACHE}


@pytest.mark.parametrize(("asked", "most"), [(["--sequences=3"], {}), ([], {"max_num_seqs": 3})], ids=["asked", "most"])
def test_measured_rows(tmp_path, checkpoint, asked, most):
    command = ["-m", "swarr_verl", "bench", str(checkpoint), "--window=16", "--depth", "96", "160", *asked]
    command += ["--steps=4", f"--out={tmp_path}", f"--engine={json.dumps(ENGINE | most)}"]
    run = runs.run(tmp_path, "bench", command, VLLM_ENABLE_V1_MULTIPROCESSING="0")  # starts sooner
    assert run.code == 0, run.output[-3000:]
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [(row["depth"], row["window"]) for row in rows] == [(96, None), (96, 16), (160, None), (160, 16)]
    for row in rows:
        fit = CACHE // (512 * 3) // kept_tokens(row["depth"], row["window"])
        assert row["sequences"] == 3 and row["sequences_that_fit"] == pytest.approx(fit, rel=0.01)
        assert row["depth"] - 8 <= row["mean_context"] <= row["depth"]
        assert row["tokens_a_second"] == pytest.approx(3e3 / row["ms_a_step"])
        assert 0 < row["bandwidth_share"] < 1 and row["bound_ms_a_step"] < row["ms_a_step"]
        assert row["bound_ms_a_step"] < row["predicted_ms_a_step"] and row["product_flops"] > 0
        assert row["predicted_ms_a_step"] >= 3e3 * row["host_seconds"] > 0
        assert row["prefill_tokens_a_second"] > 0
    assert "of the copy's bandwidth" in (tmp_path / "bench.md").read_text()
