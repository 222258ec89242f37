# SPDX-License-Identifier: Apache-2.0
"""prepare ranked: SFT rows by what `mismatch` measured of them, shares of equal tokens, and what it refuses."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarr_verl.__main__ import main
from swarr_verl.outputs import SFT
from swarr_verl.rank import share

NEED = [[0.4, 0.4], [0.1] * 6, [0.9] * 4, [0.2, 0.2]]  # a row each


@pytest.fixture
def files(tmp_path):
    rows = [
        {"messages": [{"role": role, "content": f"{role} {i}"} for role in ("user", "assistant")]} for i in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SFT), tmp_path / "sft.parquet")
    other = {"file": "drawn", "tokens": 9, "nll": [0.0] * 9, "need": [0.0] * 9}
    found = [{"file": "sft", "tokens": len(need), "nll": [1.0 - need[0]] * len(need), "need": need} for need in NEED]
    pq.write_table(pa.Table.from_pylist([other, *found]), tmp_path / "mismatch.parquet")
    return tmp_path


def ranked(files, *options: str) -> list[int]:
    paths = ["--from", str(files / "sft.parquet"), "--measured", str(files / "mismatch.parquet")]
    assert main(["prepare", "ranked", *paths, "--out", str(files / "out"), *options]) == 0
    rows = pq.read_table(files / "out" / "sft.parquet")["messages"].to_pylist()
    return [int(row[-1]["content"].split()[1]) for row in rows]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ([], [1, 3, 0, 2]),
        (["--first", "high"], [2, 0, 3, 1]),
        (["--share", "0.5"], [1, 3]),  # 8 of 14 tokens
        (["--first", "high", "--share", "0.5"], [2, 0, 3]),
        (["--rank-by", "nll"], [2, 0, 3, 1]),
        (["--rank-by", "tokens"], [0, 3, 2, 1]),
    ],
)
def test_order_and_share(files, options, rows):
    assert ranked(files, *options) == rows


def test_chance_is_that_of_its_seed(files, capsys):
    one, other = (ranked(files, "--rank-by", "random", "--seed", seed) for seed in "15")
    assert sorted(one) == sorted(other) == [0, 1, 2, 3] and one != other
    assert ranked(files, "--rank-by", "random", "--seed", "1") == one
    half = ["--share", "0.5", "--first", "high"]
    assert sorted(ranked(files, *half)) == sorted(ranked(files, *half, "--seed", "1")) == [0, 2, 3]
    assert len({tuple(ranked(files, *half, "--seed", str(seed))) for seed in range(9)}) > 3
    assert "all: 4 rows, 14 tokens of responses, need 0.3857 nats a token" in capsys.readouterr().out


@given(st.lists(st.integers(1, 50), min_size=1), st.floats(0.01, 1.0))
def test_a_share_is_off_by_less_than_a_row(tokens, part):
    kept = share(list(range(len(tokens))), tokens, part)
    assert 0 <= sum(tokens[: len(kept)]) - part * sum(tokens) + 1e-6 < tokens[len(kept) - 1] + 2e-6


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (4, ["--share", "0"], "--share 0.0: give a share"),
        (3, [], "4 rows of a file sft, .* has 3.*without --limit"),
        (0, [], "columns .*Give SFT parquet"),
    ],
)
def test_what_it_refuses(files, rows, options, message):
    table = pq.read_table(files / "sft.parquet").slice(0, rows)
    pq.write_table(table if rows else pa.table({"prompt": ["x"]}), files / "sft.parquet")
    paths = ["--from", str(files / "sft.parquet"), "--measured", str(files / "mismatch.parquet")]
    with pytest.raises(SystemExit, match=message):
        main(["prepare", "ranked", *paths, "--out", str(files / "out"), *options])
    assert not (files / "out" / "sft.parquet").exists()
