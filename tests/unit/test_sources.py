# SPDX-License-Identifier: Apache-2.0
"""Rows in verl's RL schema; those of the data sets are in test_prepare.py."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from swarr_verl.sources import DataError, rl_rows

ROW = {
    "data_source": "s",
    "prompt": [{"role": "user", "content": "1?"}],
    "reward_model": {"style": "rule", "ground_truth": "1"},
}


def test_more_columns_do_no_harm(tmp_path):
    parquet.write_table(pa.Table.from_pylist([ROW | {"extra": 1}] * 2), tmp_path / "rl.parquet")
    assert list(rl_rows(tmp_path / "rl.parquet")) == [ROW | {"extra": 1}] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "row 0, column 'prompt': NoneType, where verl's RL schema has list"),
        ({"prompt": []}, "row 0, column 'prompt': not a list of {role, content}"),
        ({"prompt": ["1?"]}, "row 0, column 'prompt': not a list of {role, content}"),
        ({"prompt": [{"role": "user", "content": None}]}, "row 0, column 'content': NoneType, where a message of"),
        ({"reward_model": {"style": "rule"}}, r"row 0: no column 'ground_truth' \(found: style\). reward_model in"),
        ({"reward_model": {"ground_truth": 1}}, "row 0, column 'ground_truth': int, where reward_model"),
        ({"data_source": None}, "row 0, column 'data_source': NoneType"),
    ],
)
def test_bad_rows_are_named(change, message, tmp_path):
    parquet.write_table(pa.Table.from_pylist([ROW | change]), tmp_path / "rl.parquet")
    with pytest.raises(DataError, match=message):
        list(rl_rows(tmp_path / "rl.parquet"))
