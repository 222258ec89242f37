# SPDX-License-Identifier: Apache-2.0
"""The file of samples: torn by a kill, damaged, of other settings, foreign."""

import json
from pathlib import Path

import pytest

from swarr_verl.samples import SampleFile
from swarr_verl.sources import DataError

SETTINGS = {"--samples": 2, "--engine": {"dtype": "float32"}}


def lines(*rows: int) -> list[dict]:
    """U+2028 ends a line for `str.splitlines`."""
    return [{"row": row, "samples": [{"text": f"{row}\u2028\n\ud800"}]} for row in rows]


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "samples.jsonl"
    file = SampleFile(path, SETTINGS)
    file.append(lines(0, 1))
    file.append(lines(2))
    return path


def test_what_was_appended_is_read(path):
    file = SampleFile(path, SETTINGS)
    assert file.problems == 3 and list(file.lines()) == lines(0, 1, 2)
    assert json.loads(path.read_text().splitlines()[0]) == {"settings": SETTINGS}


def test_nothing_is_written_before_the_first_lines(tmp_path):
    assert SampleFile(tmp_path / "samples.jsonl", SETTINGS).problems == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", [1, 9])
def test_a_torn_line_is_dropped(path, torn):
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    file = SampleFile(path, SETTINGS)
    assert file.problems == 2 and list(file.lines()) == lines(0, 1)
    file.append(lines(2))
    assert path.read_bytes() == whole


def test_every_batch_is_on_the_disk(path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(path.read_bytes().count(b"\n")))
    file = SampleFile(path, SETTINGS)
    file.append(lines(3))
    file.append(lines(4, 5))
    assert synced == [5, 7]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [*lines[:2], lines[1]], "line 3: damaged, or written by two runs"),
        (lambda lines: [lines[0], b"\0\0\n", lines[2]], "line 2: damaged"),
        (lambda lines: [lines[0], b"1\n", lines[2]], "line 2: damaged"),
        (lambda lines: lines[1:], "samples.jsonl is not of this command"),
        (lambda lines: [b"mine"], "samples.jsonl is not of this command"),
        (lambda lines: [], "samples.jsonl is not of this command"),
    ],
)
def test_a_damaged_or_foreign_file_is_left_as_it_is(path, damage, message):
    content = b"".join(damage(path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        SampleFile(path, SETTINGS)
    assert path.read_bytes() == content


def test_other_settings_are_refused(path):
    content = path.read_bytes()[:-1]
    path.write_bytes(content)
    with pytest.raises(
        DataError, match="drawn with --samples 2, not 4. Give the same to go on there, or another --out"
    ):
        SampleFile(path, SETTINGS | {"--samples": 4})
    assert path.read_bytes() == content
