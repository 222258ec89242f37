# SPDX-License-Identifier: Apache-2.0
"""prepare: rows of each data set, errors that say where, files that verl reads, whole or absent."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import tiny
from math_rows import GSM8K, ROWS
from omegaconf import OmegaConf

from swarr_verl.__main__ import main
from swarr_verl.datasets_table import TABLE
from swarr_verl.preflight import _check_files
from swarr_verl.prompts import INSTRUCTION, boxed, math_prompt

DATA = Path(__file__).parents[3] / "shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepare(*arguments: object) -> None:
    assert main(["prepare", *map(str, arguments)]) == 0


def read(path: Path) -> list[dict]:
    return parquet.read_table(path).to_pylist()


@pytest.fixture
def gsm8k(tmp_path):
    return jsonl(tmp_path / "train.jsonl", GSM8K), jsonl(tmp_path / "test.jsonl", GSM8K[:1])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_gsm8k_files(gsm8k, tmp_path, capsys):
    prepare("gsm8k", "--out", tmp_path / "out", "--from", *gsm8k)
    asked = "Tom has 3 eggs. How many are 2 Toms'?" + INSTRUCTION
    assert read(tmp_path / "out/sft.parquet")[0] == {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": "3*2=6 eggs.\nThe answer is \\boxed{6}."},
        ]
    }
    assert read(tmp_path / "out/rl_test.parquet") == [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": asked}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "6"},
            "extra_info": {"index": 0, "split": "test"},
        }
    ]
    assert [row["reward_model"]["ground_truth"] for row in read(tmp_path / "out/rl_train.parquet")] == ["6", "1200"]
    said = capsys.readouterr().out
    assert "openai/gsm8k, licence: mit" in said
    assert "of 2 train rows 1 state a test problem, 0 more share 13 words in a row with one; 1 of 1 test" in said
    listed = json.loads((tmp_path / "out/overlap.json").read_text())
    assert [(hit["train_row"], hit["file"], hit["row"], hit["kind"]) for hit in listed] == [
        (0, "rl_test.parquet", 0, "exact")
    ]
    assert not list((tmp_path / "out").glob("*.part"))


@needs_data
def test_gsm8k_is_what_the_results_in_examples_were_trained_on(tmp_path):
    """Digests of what examples/gsm8k/data.py wrote, up to commit 8b5d449."""
    prepare("gsm8k", "--out", tmp_path, "--from", DATA / "gsm8k/train.jsonl", DATA / "gsm8k/test.jsonl")
    digests = {
        name: hashlib.sha256(json.dumps(read(tmp_path / f"{name}.parquet"), sort_keys=True).encode()).hexdigest()
        for name in ("sft", "rl_train", "rl_test")
    }
    assert digests == {
        "sft": "a2f4dccee597de8d53edadf97fd6af4099d18e18f539b77bb1aa04f19bb67085",
        "rl_train": "10c46782da799a7ba67390b84bc8a0f0e0ea5adb3fcfa36d88c18613b3d0058d",
        "rl_test": "5cf81a1e97732179eac1901ee66ee3f0e38e113de6de3bfe9b1856485ee91b40",
    }


@needs_data
def test_math_and_its_test_sets(tmp_path, capsys):
    for name in ("math500", "aime24", "amc23"):
        prepare(name, "--out", tmp_path / name, "--from", DATA / f"bench/{name}.jsonl")
    assert read(tmp_path / "amc23/rl_test.parquet")[0]["reward_model"]["ground_truth"] == "27"
    tests = [tmp_path / "math500/rl_test.parquet"]
    prepare(
        "math", "--split", "train", "--out", tmp_path, "--from", DATA / "math/train.jsonl", "--check-overlap", *tests
    )
    assert "left out: 2 without a usable answer (rows 5341, 5343)" in (said := capsys.readouterr().out)
    assert "of 7500 train rows 0 state a test problem, 172 more share 13 words" in said
    source = [json.loads(line) for line in (DATA / "math/train.jsonl").read_text().splitlines()]
    for row in read(tmp_path / "rl_train.parquet"):
        assert row["reward_model"]["ground_truth"] == source[row["extra_info"]["index"]]["answer"].strip()
    for row in read(tmp_path / "sft.parquet"):
        assert boxed(row["messages"][1]["content"])


def test_drop_overlap(tmp_path, capsys):
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    problems = ["Copy me.", long + " fourteen", "fresh"]
    train = jsonl(tmp_path / "a.jsonl", [{"problem": text, "solution": r"\boxed{1}"} for text in problems])
    test = jsonl(tmp_path / "b.jsonl", [{"problem": text, "answer": "1"} for text in ("copy  ME.", "zero " + long)])
    prepare("math500", "--out", tmp_path / "test", "--from", test)
    for drop, kept in (("none", [0, 1, 2]), ("exact", [1, 2]), ("ngram", [2])):
        check = ["--check-overlap", tmp_path / "test/rl_test.parquet", "--drop-overlap", drop]
        prepare("math", "--out", tmp_path / drop, "--split", "train", "--from", train, *check)
        assert [row["extra_info"]["index"] for row in read(tmp_path / drop / "rl_train.parquet")] == kept
        assert len(read(tmp_path / drop / "sft.parquet")) == len(kept)
        assert "of 3 train rows 1 state a test problem, 1 more" in (said := capsys.readouterr().out)
        assert said.count("in a test set") == 3 - len(kept)


def test_repeats_solutions_and_answers_are_counted(tmp_path, capsys):
    row = ROWS["openmathreasoning"][0]
    rows = [row, row | {"problem": " 4? "}, row | {"problem": "5?", "generated_solution": ""}]
    rows += [row | {"expected_answer": None}] * 7
    source = jsonl(tmp_path / "rows.jsonl", rows)
    prepare("openmathreasoning", "--out", tmp_path, "--from", source)
    assert len(read(tmp_path / "sft.parquet")) == 2
    assert [row["extra_info"]["index"] for row in read(tmp_path / "rl_train.parquet")] == [0, 2]
    said = capsys.readouterr().out
    assert "left out: 7 without a usable answer (rows 3, 4, 5, 6, 7, ...)" in said
    assert "sft.parquet: 2 rows; left out: 1 without a solution" in said
    assert "rl_train.parquet: 2 rows; left out: 1 that repeat a problem" in said
    assert "overlap: not looked for" in said


def test_tokens(gsm8k, tmp_path, tokenizer, capsys):
    prepare("gsm8k", "--out", tmp_path, "--from", *gsm8k, "--tokenizer", tokenizer)
    tok = tiny.tokenizer()
    longest = {}
    for name, column in (("sft", "messages"), ("rl_train", "prompt")):
        rows = read(tmp_path / f"{name}.parquet")
        ids = [tok.apply_chat_template(row[column], add_generation_prompt=name != "sft")["input_ids"] for row in rows]
        longest[name] = max(map(len, ids))
    said = capsys.readouterr().out
    assert all(f"max {length}\n" in said for length in longest.values())
    limit = longest["sft"] - 1
    prepare("gsm8k", "--out", tmp_path, "--from", *gsm8k, "--tokenizer", tokenizer, "--max-tokens", limit)
    said = capsys.readouterr().out
    assert f"sft.parquet: 1 rows; left out: 1 over {limit} tokens" in said
    assert f"max {longest['rl_train']}" in said
    with pytest.raises(SystemExit, match=r"sft.parquet: no row would be left; left out: 2 over 9 tokens"):
        prepare("gsm8k", "--out", tmp_path, "--from", *gsm8k, "--tokenizer", tokenizer, "--max-tokens", 9)
    assert len(read(tmp_path / "rl_test.parquet")) == 1, "a test set stays whole"
    assert len(read(tmp_path / "rl_train.parquet")) == 2, "that of the run before"


def test_verl_reads_the_files(gsm8k, tmp_path, tokenizer):
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.utils.dataset.rl_dataset import RLHFDataset

    prepare("gsm8k", "--out", tmp_path, "--from", *gsm8k)
    _check_files(str(tmp_path / "sft.parquet"), "data.train_files", ["messages"])
    for split in ("train", "test"):
        columns = ["prompt", "data_source", "reward_model"]
        _check_files(str(tmp_path / f"rl_{split}.parquet"), "data.train_files", columns)
    tok = tiny.tokenizer()
    config = OmegaConf.create({"max_length": 512, "pad_mode": "right", "truncation": "error"})
    sft = MultiTurnSFTDataset(str(tmp_path / "sft.parquet"), tok, config)
    learned = tok.decode(sft[1]["input_ids"][sft[1]["loss_mask"] == 1])
    assert "The answer is \\boxed{1200}." in learned and "What do 12" not in learned
    config = OmegaConf.create({"max_prompt_length": 512, "cache_dir": str(tmp_path), "filter_overlong_prompts": True})
    rl = RLHFDataset(str(tmp_path / "rl_train.parquet"), tok, config)
    assert len(rl) == 2
    assert rl[1]["raw_prompt"] == math_prompt("What do 12 cost at $100?")
    assert rl[1]["reward_model"]["ground_truth"] == "1200" and rl[1]["index"] == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"question": "a", "answer": "1\\n#### 1"}', '{"question": "a"}'], r"row 1: no column 'answer' \(found: qu"),
        (['{"question": null, "answer": "1"}'], r"row 0, column 'question': NoneType, where openai/gsm8k has str"),
        (['{"question": "a", "answer": "1\\n#### 1"}', "{"], r"row 1: not JSON .* Mend or remove line 2"),
        (["[1]"], r"row 0: not an object"),
        (['{"question": "a", "answer": "none"}'], r"row 0: no answer. A test set must be whole"),
        (['{"question": " ", "answer": "1\\n#### 1"}'], r"row 0: no problem. A test set must be whole"),
        ([], r"no row would be left"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(lines, message, tmp_path):
    source = tmp_path / "bad.jsonl"
    source.write_text("\n".join(lines))
    with pytest.raises(SystemExit, match=message) as stopped:
        prepare("gsm8k", "--out", tmp_path / "out", "--split", "test", "--from", source)
    assert str(stopped.value).startswith("[swarr] ") and str(tmp_path) in str(stopped.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_dapo_in_another_instruction_is_counted(tmp_path, capsys):
    row = ROWS["dapo-math-17k"][0]
    rows = [row, row | {"prompt": [{"content": "2?"}]}, row]
    prepare("dapo-math-17k", "--out", tmp_path, "--from", jsonl(tmp_path / "a.jsonl", rows))
    said = capsys.readouterr().out
    assert "left out: 1 without a usable problem (rows 1)" in said and "1 rows; left out: 1 that repeat" in said
    (row,) = read(tmp_path / "rl_train.parquet")
    assert row["prompt"] == math_prompt("2?") and row["reward_model"]["ground_truth"] == "34"
    rows = [{"prompt": ["2?"], "reward_model": {}}]
    with pytest.raises(SystemExit, match=r"row 0 is not a row of BytedTsinghua"):
        prepare("dapo-math-17k", "--out", tmp_path, "--from", jsonl(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize("name", ["openr1-math-220k", "openmathreasoning", "numinamath"])
def test_nulls_of_the_large_sets_are_counted(name, tmp_path, capsys):
    row = ROWS[name][0]
    rows = [row, *(row | {column: None} for column in TABLE[name].columns)]
    prepare(name, "--out", tmp_path, "--from", jsonl(tmp_path / "a.jsonl", rows))
    said = capsys.readouterr().out
    assert "left out: 1 without a usable problem (rows 1)" in said
    assert "without a usable answer (rows 2" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aime24", "--split", "train"], "--split train: aime24 has test only"),
        (["gsm8k", "--split", "test", "test"], "name each split once"),
        (["gsm8k", "--from", "a.jsonl"], "--from: 1 files for the splits train, test. Give one each"),
        (["gsm8k", "--split", "train", "--from", "absent.jsonl"], "absent.jsonl does not exist"),
        (["gsm8k", "--split", "train", "--from", "README.md"], "neither .jsonl nor .parquet"),
        (["gsm8k", "--max-tokens", "9"], "name the tokenizer with --tokenizer"),
        (["gsm8k", "--tokenizer", "/absent"], "--tokenizer /absent: "),
        (["gsm8k", "--split", "train", "--drop-overlap", "exact"], "there is no test set here"),
        (["gsm8k", "--check-overlap", "wrong.parquet"], r"row 0: no conversation in a column prompt .*found: x"),
        (["gsm8k", "--check-overlap", "text.parquet"], "not a parquet file"),
    ],
)
def test_options_that_do_not_fit(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("README.md", "text.parquet"):
        Path(name).write_text("text")
    parquet.write_table(pa.table({"x": [1]}), "wrong.parquet")
    with pytest.raises(SystemExit, match=message):
        prepare(*arguments, "--out", "out")


def test_the_hub_is_asked_for_what_the_table_says(tmp_path, monkeypatch, capsys):
    """A stand-in for the hub: there is none where the tests run."""
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return datasets.Dataset.from_list(GSM8K).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    prepare("gsm8k", "--out", tmp_path)
    assert asked == [(("openai/gsm8k", "main"), {"split": split, "streaming": True}) for split in ("test", "train")]
    assert len(read(tmp_path / "sft.parquet")) == 2

    def no_network(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    with pytest.raises(
        SystemExit, match=r"math-ai/aime25, split test cannot be read from the hub \(no route\).*--from"
    ):
        prepare("aime25", "--out", tmp_path)


def test_parquet_as_on_the_hub(tmp_path):
    row = ROWS["openr1-math-220k"][0]
    parquet.write_table(pa.Table.from_pylist([row] * 2500), tmp_path / "hub.parquet", row_group_size=700)
    prepare("openr1-math-220k", "--out", tmp_path, "--from", tmp_path / "hub.parquet")
    rows = read(tmp_path / "sft.parquet")
    assert len(rows) == 2500 and rows[-1]["messages"][1]["content"] == "right\nThe answer is \\boxed{9}."


def test_the_command_line_stays_light():
    """`doctor` must run where nothing else does."""
    heavy = "{'pyarrow', 'datasets', 'tqdm', 'torch', 'transformers', 'verl'}"
    code = f"import sys, swarr_verl.__main__; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
