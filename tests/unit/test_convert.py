# SPDX-License-Identifier: Apache-2.0
"""convert and inspect: checkpoints that stock transformers loads with the window, written whole or not at all."""

import shutil

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from swarr_verl import convert as module
from swarr_verl.__main__ import main
from swarr_verl.cost import kept_tokens, kv_bytes_per_token
from swarr_verl.families import FAMILIES, apply_window, module_windows
from swarr_verl.inspection import vllm_windows
from swarr_verl.window import WindowError, WindowSpec


@pytest.fixture(params=["llama", "qwen3"])
def source(request, tmp_path):
    """A sharded checkpoint with tied embeddings."""
    folder = tmp_path / "source"
    tiny.checkpoint(folder, request.param, layers=4, tie_word_embeddings=True)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).save_pretrained(folder, max_shard_size="300KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.mark.parametrize(
    ("layers", "windows"), [("all", [5] * 4), ("full_every:2", [5, None] * 2), ("0,3", [None, 5, 5, None])]
)
def test_convert(source, tmp_path, capsys, layers, windows):
    target = tmp_path / "new" / "target"
    assert main(["convert", str(source), str(target), "--window", "5", "--layers", layers]) == 0
    said = capsys.readouterr().out
    assert ("--hf-overrides" in said) == (layers != "all" and "qwen3" in said)
    for file in source.iterdir():
        made = target / file.name
        if file.suffix == ".safetensors":
            assert made.stat().st_ino == file.stat().st_ino, "linked"
        elif file.name != "config.json":
            assert made.read_bytes() == file.read_bytes() and made.stat().st_ino != file.stat().st_ino
    assert AutoTokenizer.from_pretrained(target).chat_template
    model, dense = (AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32) for p in (target, source))
    assert module_windows(model) == windows
    short, long = torch.arange(3, 8)[None], torch.arange(3, 60)[None]
    torch.testing.assert_close(model(short).logits, dense(short).logits, atol=1e-5, rtol=0)
    assert (model(long).logits - dense(long).logits).abs().max() > 1e-2
    assert main(["inspect", str(target), "--length", "1000"]) == 0


def test_a_converted_checkpoint_is_narrowed_and_not_widened(source, tmp_path):
    convert = lambda src, dst, window: main(["convert", str(src), str(tmp_path / dst), "--window", window])  # noqa: E731
    convert(source, "wide", "9")
    convert(tmp_path / "wide", "narrow", "5")
    assert module_windows(AutoModelForCausalLM.from_pretrained(tmp_path / "narrow")) == [5] * 4
    with pytest.raises(SystemExit, match=r"swarr\.window=9 .* the windows 5 \(layers 0-3\)"):
        convert(tmp_path / "narrow", "wider", "9")
    assert not (tmp_path / "wider").exists()


def test_nothing_is_left_of_a_conversion_that_fails(source, tmp_path, monkeypatch):
    target = tmp_path / "new" / "target"
    with pytest.raises(SystemExit, match=r"swarr\.window=0"):
        main(["convert", str(source), str(target), "--window", "0"])

    def full_disk(*_):
        raise OSError("no space")

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="no space"):
        module.convert(str(source), target, WindowSpec(5))
    assert list(target.parent.iterdir()) == []


def test_refusals(source, tmp_path):
    with pytest.raises(WindowError, match=r"exists. Choose a DST"):
        module.convert(str(source), source, WindowSpec(5))
    for file in source.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(WindowError, match=r"holds no weights .*as SRC"):
        module.convert(str(source), tmp_path / "target", WindowSpec(5))


def test_a_hard_link_across_file_systems_becomes_symbolic(tmp_path, monkeypatch):
    (tmp_path / "weights").write_text("x")

    def cross_device(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(module.os, "link", cross_device)
    module._link(tmp_path / "weights", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "x"


def test_inspect_tells_a_llama_that_only_vllm_windows(tmp_path, capsys):
    """DESIGN 2.2: transformers ignores `sliding_window` of a Llama, vLLM applies it."""
    tiny.config("llama", sliding_window=64).save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "transformers         full (layers 0-2)" in said and "vLLM                 64 (layers 0-2)" in said
    assert "DIFFERENT" in said


def test_inspect_counts_bytes(tmp_path, capsys):
    apply_window(tiny.config("qwen3", layers=4), WindowSpec(33, (0,))).save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path), "--length", "100"]) == 0
    token = 2 * 2 * 32 * kv_itemsize(tmp_path)
    said = capsys.readouterr().out
    assert f"{token * (112 + 3 * 48):,} bytes a sequence; full attention {token * 4 * 112:,}" in said
    assert "Stock vLLM refuses this hybrid" in said


def kv_itemsize(path) -> int:
    dtype = AutoConfig.from_pretrained(path).dtype
    return 2 if dtype is None else dtype.itemsize


def test_inspect_refuses_an_unsupported_family(tmp_path, capsys):
    AutoConfig.for_model("glm4").save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 1
    assert "glm4, not supported" in capsys.readouterr().out


@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_agree_on_what_apply_window_writes(family):
    config = apply_window(tiny.config(family), WindowSpec(9))
    assert vllm_windows(config) == [9, 9, 9]
    assert kept_tokens(10_000, 1) == 16
    assert kv_bytes_per_token(config) == 2 * 2 * 32 * 2
