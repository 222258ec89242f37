# SPDX-License-Identifier: Apache-2.0
"""prepare selfdistill, with a stand-in for vLLM: what is kept, and that a killed run goes on where it was."""

import json
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import tiny
from omegaconf import OmegaConf

from swarr_verl import selfdistill
from swarr_verl.__main__ import main
from swarr_verl.datasets_table import TABLE, Example
from swarr_verl.outputs import RL, rl_row
from swarr_verl.preflight import _check_files
from swarr_verl.prompts import math_prompt

PROBLEMS = 5


def rl_parquet(path: Path, problems: int = PROBLEMS) -> Path:
    """Problem i asks `i?`; the answer is i."""
    rows = [rl_row(Example(f"{i}?", str(i)), "swarr/test", "train", i) for i in range(problems)]
    parquet.write_table(pa.Table.from_pylist(rows, RL), path)
    return path


def answer(text: str, finish_reason: str = "stop") -> dict:
    return {"text": text, "tokens": len(text), "finish_reason": finish_reason}


class Engine:
    """Stands in for `start_engine`: two right texts, one of them twice, and a wrong one; counts what it is asked."""

    def __init__(self, dies_in_batch: int | None = None):
        self.dies_in_batch, self.seeds, self.prompts, self.batches = dies_in_batch, [], [], count()

    def __call__(self, options, seed):
        self.seeds.append(seed)
        return self.draw

    def draw(self, prompts):
        if next(self.batches) == self.dies_in_batch:
            raise KeyboardInterrupt
        texts = [tiny.tokenizer().decode(ids) for ids in prompts]
        self.prompts += texts
        return [self.samples(text.partition("user\n")[2].partition("?")[0]) for text in texts]

    def samples(self, gold):
        texts = rf" So \boxed{{{gold}}}. ", rf"It is \boxed{{{gold}}}.", rf"So \boxed{{{gold}}}.", r"\boxed{-1}"
        return [answer(text) for text in texts]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tokenizer is all that a run without an engine reads."""
    folder = tmp_path_factory.mktemp("model")
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def command(tmp_path, model):
    source = rl_parquet(tmp_path / "rl_train.parquet")
    return ["prepare", "selfdistill", "--from", str(source), "--model", str(model), "--out", str(tmp_path / "out")]


@pytest.fixture
def run(command, monkeypatch):
    def run(engine, *options):
        monkeypatch.setattr(selfdistill, "start_engine", engine)
        return main([*command, "--batch", "2", *map(str, options)])

    return run


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def learned(out: Path) -> list[str]:
    return [row["messages"][1]["content"] for row in parquet.read_table(out / "sft.parquet").to_pylist()]


def test_the_files(run, out, capsys):
    assert run(Engine()) == 0
    rows = parquet.read_table(out / "sft.parquet").to_pylist()
    texts = [text for i in range(PROBLEMS) for text in (rf"So \boxed{{{i}}}.", rf"It is \boxed{{{i}}}.")]
    prompts = [math_prompt(f"{i}?") for i in range(PROBLEMS) for _ in range(2)]
    assert [row["messages"][:-1] for row in rows] == prompts
    assert [row["messages"][-1] for row in rows] == [{"role": "assistant", "content": text} for text in texts]
    _, *problems = lines(out)
    assert [line["row"] for line in problems] == list(range(PROBLEMS))
    assert problems[3]["ground_truth"] == "3" and problems[3]["data_source"] == "swarr/test"
    assert problems[3]["samples"][3] == answer(r"\boxed{-1}") | {"acc": 0.0, "format": 1.0, "conflict": 0.0}
    said = capsys.readouterr().out
    assert "sft.parquet: 10 rows; left out: 5 wrong; left out: 5 that repeat another" in said
    assert (
        "5 problems, 0 of them too long (--prompt-tokens), 5 with a sample to learn from; 20 samples: 75.0% cor" in said
    )
    assert "tokens: median" in said and "a second" in said


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (answer(r"\boxed{7}"), None),
        (answer(r"\boxed{7 \times 1}"), None),  # math-verify's to judge
        (answer(r"7 = \boxed{7} = \boxed{7.0}"), None),
        (answer(r"\boxed{7}", "length"), "that did not end"),
        (answer(r"\boxed{7}", "abort"), "that did not end"),
        (answer(r"\boxed{8}"), "wrong"),
        (answer(""), "wrong"),
        (answer("7"), "right without a box"),
        (answer(r"\boxed{8}, no: \boxed{7}"), "right with boxes that differ"),
        (answer(r"\boxed{7}<|im_start|>user"), "with special tokens"),
    ],
)
def test_what_is_learned_from(sample, why):
    row = {"data_source": "", "reward_model": {"ground_truth": "7"}}
    graded = selfdistill._line(0, row, [sample])["samples"]
    left_out = Counter()
    texts = selfdistill.usable(graded, {"<|im_start|>"}, None, left_out)
    assert texts == ([] if why else [sample["text"]])
    assert +left_out == ({why: 1} if why else {})


def test_keep_takes_the_first_and_may_change_without_sampling(run, out, capsys):
    run(Engine())
    assert run(None, "--keep", 1) == 0, "no engine is started"
    assert learned(out) == [rf"So \boxed{{{i}}}." for i in range(PROBLEMS)]
    assert "left out: 5 over --keep 1" in capsys.readouterr().out
    run(None, "--keep", 2)
    assert len(learned(out)) == 2 * PROBLEMS


@pytest.mark.parametrize("dies_in_batch", [0, 1, 2])
def test_a_killed_run_goes_on_where_it_was(run, out, dies_in_batch):
    run(Engine())
    unbroken = (out / "samples.jsonl").read_bytes(), learned(out)
    for file in out.iterdir():
        file.unlink()
    first, second = Engine(dies_in_batch), Engine()
    with pytest.raises(KeyboardInterrupt):
        run(first, "--seed", 7)
    assert not (out / "sft.parquet").exists()
    run(second, "--seed", 7)
    assert len(first.prompts) == 2 * dies_in_batch
    assert [text.partition("user\n")[2][0] for text in first.prompts + second.prompts] == list("01234")
    assert (first.seeds, second.seeds) == ([7], [7 + 2 * dies_in_batch]), "the same numbers must not come again"
    assert learned(out) == unbroken[1]
    assert (out / "samples.jsonl").read_bytes() == unbroken[0].replace(b'"--seed": 0', b'"--seed": 7')


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--temperature", "0.8"),
        ("--top-p", "0.9"),
        ("--samples", "4"),
        ("--response-tokens", "9"),
        ("--prompt-tokens", "99"),
        ("--seed", "1"),
        ("--engine", '{"dtype": "float32"}'),
    ],
)
def test_other_settings_are_refused(run, option, value):
    with pytest.raises(KeyboardInterrupt):
        run(Engine(dies_in_batch=1))
    with pytest.raises(SystemExit, match=f"samples.jsonl was drawn with {option} .*, not .*Give the same"):
        run(None, option, value)
    run(Engine(), "--gpu-memory-utilization", 0.5)  # where it runs is free


def test_another_model_or_another_source_is_refused(run, command, out, tmp_path):
    run(Engine())
    before = (out / "samples.jsonl").read_bytes()
    tiny.tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit, match=r"drawn with --model .*/model\d+, not .*/other"):
        run(None, "--model", tmp_path / "other")
    rl_parquet(Path(command[3]), PROBLEMS + 1)
    with pytest.raises(SystemExit, match=r"drawn with --from a file of digest"):
        run(None)
    assert (out / "samples.jsonl").read_bytes() == before


def test_a_run_that_drew_nothing_holds_nobody_to_its_settings(run, out):
    with pytest.raises(KeyboardInterrupt):
        run(Engine(dies_in_batch=0))
    run(Engine(), "--response-tokens", 9)
    assert lines(out)[0]["settings"]["--response-tokens"] == 9


def test_an_sft_file_of_another_command_is_not_replaced(run, out):
    out.mkdir()
    (out / "sft.parquet").write_text("gsm8k's")
    with pytest.raises(SystemExit, match=r"--out: .*sft.parquet is not of this command"):
        run(None)
    assert (out / "sft.parquet").read_text() == "gsm8k's"


def test_prompts_are_those_of_rl_and_long_ones_are_not_asked(run, command, out, capsys):
    rows = [rl_row(Example(text, "1"), "swarr/test", "train", 0) for text in ("long " * 50, "short", "?")]
    parquet.write_table(pa.Table.from_pylist(rows, RL), command[3])
    tok = tiny.tokenizer()
    wanted = [tok.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"] for row in rows]
    asked = []

    def start(options, seed):
        return lambda prompts: asked.extend(prompts) or [[answer(r"\boxed{1}")] for _ in prompts]

    run(start, "--prompt-tokens", len(wanted[1]))
    assert asked == wanted[1:]
    assert [len(line["samples"]) for line in lines(out)[1:]] == [0, 1, 1]
    assert "3 problems, 1 of them too long" in capsys.readouterr().out


def test_verl_reads_the_file(run, out):
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

    run(Engine())
    _check_files(str(out / "sft.parquet"), "data.train_files", ["messages"])
    tok = tiny.tokenizer()
    config = OmegaConf.create({"max_length": 512, "pad_mode": "right", "truncation": "error"})
    row = MultiTurnSFTDataset(str(out / "sft.parquet"), tok, config)[7]
    text = tok.decode(row["input_ids"][row["loss_mask"] == 1])
    assert "It is \\boxed{3}." in text and "3?" not in text


def test_nothing_right_writes_nothing(run, out):
    with pytest.raises(SystemExit, match=r"sft.parquet: no row would be left; left out: 5 wrong"):
        run(lambda options, seed: lambda prompts: [[answer("no")] for _ in prompts])
    assert [path.name for path in out.iterdir()] == ["samples.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "nan"], "--temperature: give a number >= 0"),
        (["--temperature", "0"], "--samples: give 1: at --temperature 0 all would be the same"),
        (["--top-p", "0"], r"--top-p: give a share in \(0, 1\]"),
        (["--gpu-memory-utilization", "1.1"], "--gpu-memory-utilization: give a share"),
        (["--seed", "-1"], "--seed: give a whole number"),
        (["--engine", '{"seed": 1}'], "--engine: seed is not free"),
        (["--model", "/absent"], "--model /absent: "),
        (["--from", "absent.parquet"], "absent.parquet does not exist"),
    ],
)
def test_options_that_do_not_fit(run, out, options, message):
    with pytest.raises(SystemExit, match=message):
        run(None, *options)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "0"], "argument --samples: 0: give a whole number >= 1"),
        (["--keep", "x"], "argument --keep: x: give a whole number >= 1"),
        (["--engine", "{"], "argument --engine: {: not JSON"),
        (["--engine", "[]"], "argument --engine: []: give a JSON object"),
    ],
)
def test_options_that_cannot_be_read(run, options, message, capsys):
    with pytest.raises(SystemExit):
        run(None, *options)
    assert message in capsys.readouterr().err


def test_no_rows(run, command):
    rl_parquet(Path(command[3]), 0)
    with pytest.raises(SystemExit, match=r"rl_train.parquet: no row. Give the rl_train.parquet"):
        run(None)


def test_without_vllm(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SystemExit, match=r"vLLM cannot be imported .*swarr_verl doctor"):
        main(command)


def test_help_lists_every_name(capsys):
    for arguments in (["prepare", "--help"], ["prepare", "selfdistill", "--help"], ["prepare", "nonsense"]):
        with pytest.raises(SystemExit):
            main(arguments)
    said = capsys.readouterr()
    assert all(f"\n{name} " in said.out for name in TABLE) and "    selfdistill" in said.out
    assert "--response-tokens N" in said.out and "(default: 8)" in said.out
    assert "argument NAME: invalid choice: 'nonsense' (choose from" in said.err and "selfdistill" in said.err
