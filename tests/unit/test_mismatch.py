# SPDX-License-Identifier: Apache-2.0
"""`mismatch` with a tiny probe: SFT rows and generations, killed and gone on, and what it refuses."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from swarr_verl import mismatch, mismatch_report
from swarr_verl.__main__ import main
from swarr_verl.convert import convert
from swarr_verl.families import apply_window
from swarr_verl.need import context_need, nll
from swarr_verl.reach import reach
from swarr_verl.trajectories import Trajectory, by_input, digest, prompt_text, read
from swarr_verl.window import WindowSpec

WINDOW = 12
KINDS = ["nll", "need"]  # of numbers, always


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mismatch")
    tiny.checkpoint(folder / "model")
    convert(str(folder / "model"), folder / "served", WindowSpec(WINDOW))
    tiny.data(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = pq.read_table(folder / "rl_val.parquet").to_pylist()
    answers = [("It is 7, since 3 plus 4 is 7. \\boxed{7}", 1.0, False), ("no", 0.0, True), ("", 0.0, True)]
    lines = [
        {"input": digest(prompt_text(tokenizer, rows[i]["prompt"])), "output": text, "acc": acc, "truncated": cut}
        for i, (text, acc, cut) in enumerate(answers)
    ]
    (folder / "drawn.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return folder


def command(work, out, *more: str) -> list[str]:
    files = [str(work / "sft.parquet"), str(work / "drawn.jsonl.gz")]
    options = ["--problems", str(work / "rl_val.parquet"), "--model", str(work / "model"), "--window", str(WINDOW)]
    return ["mismatch", *files, *options, "--stride", "4", "--limit", "20", "--out", str(out), *more]


def test_from_files_to_table(work, tmp_path, capsys):
    assert main(command(work, tmp_path)) == 0
    rows = pq.read_table(tmp_path / "mismatch.parquet").to_pylist()
    assert [row["file"] for row in rows] == ["sft"] * 20 + ["drawn"] * 3
    assert [row["correct"] for row in rows][-4:] == [None, 1.0, 0.0, 0.0]
    assert rows[-1]["tokens"] == 0

    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    model = AutoModelForCausalLM.from_pretrained(work / "model", dtype=torch.float32).eval()
    messages = pq.read_table(work / "sft.parquet")["messages"][5].as_py()
    prompt, response = Trajectory(messages[:-1], messages[-1]["content"], True, None).tokens(tokenizer)
    assert response[-1] == tokenizer.eos_token_id
    ((whole, cut),) = context_need(model, [(torch.tensor(prompt + response), len(prompt))], WINDOW, 4)
    assert rows[5]["need"] == pytest.approx((cut - whole).tolist(), abs=2e-4)

    written = json.loads((tmp_path / "mismatch.json").read_text())
    found, compared = written["rows"], written["at_equal_length"]
    assert found.keys() == {"sft", "drawn", "drawn, right", "drawn, wrong"}
    assert [(row["group"], row["against"]) for row in compared] == [
        ("drawn", "sft"),
        ("drawn, wrong", "drawn, right"),
    ]
    with gzip.open(work / "drawn.jsonl.gz") as drawn:
        assert rows[20]["problem"] == json.loads(drawn.readline())["input"]
    assert rows[5]["prompt"] == len(prompt)
    right = rows[20]
    assert found["drawn, right"]["need"][0] == pytest.approx(sum(right["need"]) / right["tokens"])
    assert found["drawn"]["trajectories"] == 2, "nothing was written in the third"
    said = capsys.readouterr().out
    assert said == (tmp_path / "mismatch.md").read_text() and "| drawn, wrong | 1 |" in said
    assert (tmp_path / "mismatch.png").stat().st_size > 5000


def test_compared_with_another_file_without_reading_again(work, tmp_path, monkeypatch):
    assert main(command(work, tmp_path)) == 0
    first = json.loads((tmp_path / "mismatch.json").read_text())["at_equal_length"]
    monkeypatch.setattr(mismatch, "load", None)
    assert main(command(work, tmp_path, "--against", "drawn", "sft")) == 0
    again = json.loads((tmp_path / "mismatch.json").read_text())["at_equal_length"]
    assert [(row["group"], row["against"]) for row in again] == [("sft", "drawn"), ("drawn, wrong", "drawn, right")]
    assert again[0]["difference"][0] == pytest.approx(-first[0]["difference"][0])
    with pytest.raises(SystemExit, match="--against answers: give names among sft, drawn"):
        main(command(work, tmp_path, "--against", "answers"))


def loaded(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def test_served_and_reach_beside_it(work, tmp_path, capsys):
    assert main(command(work, tmp_path, "--served", str(work / "served"), "--reach", "5")) == 0
    rows = pq.read_table(tmp_path / "mismatch.parquet").to_pylist()
    assert [index for index, row in enumerate(rows) if row["reach"]] == [0, 4, 8, 12, 16, 20, 21], "22 is empty"

    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    messages = pq.read_table(work / "sft.parquet")["messages"][4].as_py()
    prompt, response = Trajectory(messages[:-1], messages[-1]["content"], True, None).tokens(tokenizer)
    text = torch.tensor(prompt + response)
    (alone,) = nll(loaded(work / "served"), [text], [len(response)])
    assert rows[4]["served"] == pytest.approx(alone.tolist(), abs=2e-4)
    assert max(abs(a - b) for a, b in zip(rows[4]["served"], rows[4]["nll"], strict=True)) > 0.01
    of_heads = reach(loaded(work / "model"), (text, len(prompt)), WINDOW)
    assert np.allclose(rows[4]["reach"], of_heads, atol=1e-6) and of_heads.min() > 0.01

    found = json.loads((tmp_path / "mismatch.json").read_text())["rows"]
    gaps = [sum(row["served"]) - sum(row["nll"]) for row in rows[20:22]]
    assert found["drawn"]["gap"][0] == pytest.approx(sum(gaps) / (rows[20]["tokens"] + rows[21]["tokens"]))
    assert found["drawn, wrong"]["gap"][0] == pytest.approx(gaps[1] / rows[21]["tokens"])
    assert found["sft"]["reach_trajectories"] == 5
    assert np.shape(found["sft"][mismatch_report.OF_HEADS]) == (3, 4)
    assert "served gap, nats a token | reach, share" in capsys.readouterr().out
    assert (tmp_path / "reach.png").stat().st_size > 5000


def test_what_is_not_asked_for_is_not_there(work, tmp_path, capsys):
    assert main(command(work, tmp_path)) == 0
    assert pq.read_table(tmp_path / "mismatch.parquet").column_names == [
        *("row", "file", "problem", "correct", "prompt", "tokens"),
        *KINDS,
    ]
    assert "gap" not in (said := capsys.readouterr().out) and "reach" not in said
    assert not (tmp_path / "reach.png").exists()
    for option in (["--served", str(work / "served")], ["--reach", "2"]):
        with pytest.raises(SystemExit, match=f"drawn with {option[0][2:]} None, not {option[1]}"):
            main(command(work, tmp_path, *option))


def test_a_killed_run_goes_on(work, tmp_path, monkeypatch):
    more = ["--served", str(work / "served"), "--reach", "3"]

    class Killed(Exception):
        pass

    measured, real = [], mismatch._measure

    def measure(*arguments):
        measured.extend(one.file for one in arguments[3])
        if len(measured) > 16:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(mismatch, "_measure", measure)
    with pytest.raises(Killed):
        main(command(work, tmp_path, *more))
    del measured[:]
    monkeypatch.setattr(mismatch, "BATCH", 7)
    monkeypatch.setattr(
        mismatch, "_measure", lambda *given: measured.extend(one.file for one in given[3]) or real(*given)
    )
    assert main(command(work, tmp_path, *more)) == 0
    assert measured == ["sft"] * 4 + ["drawn"] * 3, "16 were on the disk"
    assert main(command(work, tmp_path / "again", *more)) == 0
    first, again = (pq.read_table(folder / "mismatch.parquet") for folder in (tmp_path, tmp_path / "again"))
    assert first.drop_columns([*KINDS, "served"]).equals(again.drop_columns([*KINDS, "served"]))
    for name in (*KINDS, "served"):  # padded among others
        assert np.allclose(*(np.concatenate(table[name].to_pylist()) for table in (first, again)), atol=2e-4)
    with pytest.raises(SystemExit, match="stride"):
        main(command(work, tmp_path, *more, "--stride", "2"))


def test_need_of_a_token_has_the_weight_of_a_token():
    lines = [{"need": [1.0] * 9, "nll": [0.0] * 9, "tokens": 9}, {"need": [0.0], "nll": [2.0], "tokens": 1}]
    row = mismatch_report.summary(lines)
    assert row["need"][0] == pytest.approx(0.9) and row["nll"] == pytest.approx(0.2)
    assert row["need"][1] == 0 and row["need"][2] == pytest.approx(1)
    assert row["total"] == pytest.approx([4.5, 0, 9])


def test_reach_and_gap_of_a_token_have_the_weight_of_a_token():
    of_a_token = {"need": [0.0], "nll": [1.0], "served": [3.0], "tokens": 1, "reach": [[0.0, 1.0], [0.0, 1.0]]}
    of_three = {"need": [0.0] * 3, "nll": [1.0] * 3, "served": [1.0] * 3, "tokens": 3, "reach": [[0.0, 0.0]] * 2}
    row = mismatch_report.summary([of_a_token, of_three, of_a_token | {"reach": None}])
    assert row["gap"] == pytest.approx([4 / 5, 0, 2])
    assert row["reach"] == pytest.approx([1 / 8, 0, 1 / 2]) and row["reach_trajectories"] == 2
    assert row[mismatch_report.OF_HEADS] == [[0, 1 / 4], [0, 1 / 4]]
    table = mismatch_report.markdown({"a": row, "b": row | {"reach": None}})
    assert "0.125 [0.000, 0.500] |" in table[2] and table[3].endswith("| - |")


@pytest.mark.parametrize("number", range(1, 9))
def test_a_sample_is_spread(number):
    for count in range(1, 12):
        places = mismatch.spread(number, count)
        assert places == sorted(set(places)) and len(places) == min(number, count) and set(places) <= set(range(number))
        steps = {after - before for before, after in pairwise([*places, number])}
        assert max(steps) - min(steps) <= 1
    assert mismatch.spread(number, 0) == []


def test_by_position():
    lines = [{"need": [1.0] * 20}] + [{"need": [3.0] * 16}] * 9
    places, means = mismatch_report.by_position(lines)
    assert places == [0] and means == pytest.approx([np.average([1, 3], weights=[1, 9])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sft.parquet": "rl_val.parquet"}, "has no column `messages`"),
        ({"--problems": None}, "no file of --problems has its prompt"),
        ({"drawn.jsonl.gz": "sft.parquet"}, "Two files are called sft"),
        ({"--model": "windowed"}, "--model .* has a window"),
        ({"--served": "model"}, "--served .* has no window"),
        ({"--served": "other words"}, "--served .* has another tokenizer or chat template than --model"),
        ({"--served": "other chat"}, "--served .* has another tokenizer or chat template than --model"),
        ({"--stride": 13}, "--stride 13: give at most the --window, 12"),
    ],
)
def test_what_is_refused(work, tmp_path, change, message):
    apply_window(tiny.config("qwen2"), WindowSpec(9)).save_pretrained(work / "windowed")
    for name in ("other words", "other chat"):
        other = tiny.tokenizer()
        if name == "other words":
            other.add_tokens("a word")
        else:
            other.chat_template = other.chat_template.replace("assistant", "answer")
        apply_window(tiny.config("qwen2"), WindowSpec(9)).save_pretrained(work / name)
        other.save_pretrained(work / name)
    words = command(work, tmp_path, "--served", str(work / "served"))
    for old, new in change.items():
        place = next(i for i, word in enumerate(words) if word.endswith(old))
        if new is None:
            del words[place : place + 2]
        elif old.startswith("--"):
            words[place + 1] = str(work / new) if isinstance(new, str) else str(new)
        else:
            words[place] = str(work / new)
    with pytest.raises(SystemExit, match=message):
        main(words)


def test_lines_behind_the_limit_need_no_problem(work, tmp_path):
    """The answers to a second test set come behind those to the first in one file."""
    lines = gzip.decompress((work / "drawn.jsonl.gz").read_bytes()) + b'{"input": "of another set"}\n'
    (tmp_path / "both.jsonl.gz").write_bytes(gzip.compress(lines))
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    found = read(tmp_path / "both.jsonl.gz", by_input([work / "rl_val.parquet"], tokenizer))
    assert [next(found).correct for _ in range(3)] == [1.0, 0.0, 0.0]
    command_ = ["mismatch", str(tmp_path / "both.jsonl.gz"), *command(work, tmp_path)[3:]]
    assert main([*command_, "--limit", "3"]) == 0
    assert len(pq.read_table(tmp_path / "mismatch.parquet")) == 3
    with pytest.raises(SystemExit, match=r"both.jsonl.gz:4: no file of --problems"):
        main([*command_, "--limit", "4", "--out", str(tmp_path / "more")])


def test_rollouts_that_verl_dumps_in_training(work, tmp_path):
    """The prompt as text without special tokens, a score, and not a word on what was cut."""
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    prompt = pq.read_table(work / "rl_val.parquet")["prompt"][1].as_py()
    asked = tokenizer(prompt_text(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    shown = tokenizer.decode(asked, skip_special_tokens=True)
    assert shown != prompt_text(tokenizer, prompt)
    line = {"input": shown, "output": "It is 7.", "gts": "7", "score": 1.0, "step": 20, "uid": "a_0_0"}
    (tmp_path / "20.jsonl").write_text(json.dumps(line) + "\n")
    (found,) = read(tmp_path / "20.jsonl", by_input([work / "rl_val.parquet"], tokenizer))
    assert found == Trajectory(prompt, "It is 7.", ended=False, correct=1.0)
    assert found.tokens(tokenizer)[0] == asked


def test_an_empty_file_is_named(work, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(SystemExit, match=r"none.jsonl holds no trajectory"):
        main(["mismatch", str(tmp_path / "none.jsonl"), *command(work, tmp_path)[3:]])
    assert list(read(tmp_path / "none.jsonl", {})) == []
