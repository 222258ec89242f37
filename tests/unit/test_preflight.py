# SPDX-License-Identifier: Apache-2.0
"""Bad input: a message that names the key and the remedy, before any GPU minute is spent."""

import pandas as pd
import pytest
import tiny
from omegaconf import OmegaConf
from trees import changed, tree

from swarr_verl.preflight import check, check_command_line

SFT = ("+swarr=[sft,cpu_sft]", "swarr.window=8")
RL = ("+swarr=[grpo,cpu_rl]", "swarr.window=8")


@pytest.fixture
def good(checkpoint, data):
    """The tree of a run that may start, changed."""
    sft = (f"model.path={checkpoint}", f"data.train_files={data}/sft.parquet")
    model = f"actor_rollout_ref.model.path={checkpoint}"
    rl = (model, f"data.train_files={data}/rl_train.parquet", f"data.val_files={data}/rl_val.parquet")
    composed = {"sft": changed(tree("sft", *SFT), *sft), "rl": changed(tree("rl", *RL), *rl)}
    return lambda kind, *more: changed(composed[kind], *more)


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_good_config_passes(good, kind):
    check(good(kind))


MODEL = "actor_rollout_ref.model"
ROLLOUT = "actor_rollout_ref.rollout"
BAD = [
    ("sft", ["swarr.window=0"], r"swarr\.window=0.*swarr\.window=4096"),
    ("rl", ["swarr.window=-4"], r"swarr\.window=-4"),
    ("rl", ["swarr.window=abc"], r"swarr\.window='abc'"),
    ("rl", ["swarr.window=1.5"], r"swarr\.window=1\.5"),
    ("rl", ["swarr.window=???"], r"swarr\.window is not set.*swarr\.window=4096"),
    ("rl", ["swarr.layers=every_4th"], r"swarr\.layers=.every_4th. is not a pattern.*full_every:N"),
    ("sft", ["model._target_=verl.workers.config.HFModelConfig"], r"model\._target_=verl.*Use model\._target_=swarr"),
    ("rl", [f"{MODEL}._target_=verl.workers.config.HFModelConfig"], r"_target_=verl.*Use actor_rollout_ref"),
    (
        "rl",
        ["algorithm.adv_estimator=gae", "critic.model._target_=verl.workers.config.HFModelConfig"],
        r"critic\.model\._t",
    ),
    ("sft", ["model.override_config.attn_implementation=flash_attention_2"], r"flash-attn is not usable.*sdpa"),
    ("sft", ["model.override_config.attn_implementation=flex_attention"], r"attn_implementation=flex_attention"),
    ("sft", ["engine.ulysses_sequence_parallel_size=2"], r"ulysses_sequence_parallel_size=2 with .*=sdpa.*=1"),
    (
        "rl",
        ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=2"],
        r"ulysses_sequence_parallel_size=2 with .*=sdpa.*Choose one of these",
    ),
    ("sft", ["+model.override_config.sliding_window=9"], r"override_config\.sliding_window.*set swarr\.window"),
    ("sft", ["model.path=/nowhere"], r"model\.path=/nowhere.*config\.json"),
    ("sft", ["data.train_files=/nowhere.parquet"], r"data\.train_files: /nowhere.parquet does not exist"),
    ("sft", ["engine.strategy=megatron"], r"engine\.strategy=megatron.*Use engine=fsdp"),
    ("rl", ["actor_rollout_ref.actor.strategy=megatron"], r"strategy=megatron.*strategy=fsdp2"),
    ("rl", [f"{ROLLOUT}.name=sglang"], r"name=sglang: SGLang ignores.*name=swarr_vllm"),
    ("rl", [f"{ROLLOUT}.name=trtllm"], r"name=trtllm.*name=swarr_vllm"),
    ("rl", [f"{ROLLOUT}.name=vllm"], r"name=vllm.*name=swarr_vllm"),
    # each place where verl does something for the literal name `vllm` only
    ("rl", [f"{ROLLOUT}.pipeline_model_parallel_size=2"], r"pipeline_model_parallel_size.*Set it to 1"),
    ("rl", [f"{ROLLOUT}.disaggregation.enabled=true"], r"disaggregation\.enabled.*Set false"),
    ("rl", [f"{ROLLOUT}.checkpoint_engine.backend=delta_sharded"], r"delta_sharded.*Use naive"),
    ("rl", [f"{ROLLOUT}.scheduling_policy=priority"], r"scheduling_policy=priority.*Use fcfs"),
    ("rl", [f"{MODEL}.lora_rank=4096"], r"lora_rank=4096"),
    (
        "rl",
        [f"{MODEL}.lora_rank=8"],
        r"actor\.checkpoint\.save_contents: with LoRA.*model,optimizer,extra.*model_merger",
    ),
    ("rl", [f"{MODEL}.use_fused_kernels=true"], r"use_fused_kernels=true: with strategy=fsdp2.*strategy=fsdp\."),
    ("sft", ["model.use_fused_kernels=true"], r"model\.use_fused_kernels=true: with strategy=fsdp2"),
    ("sft", ["model.lora_rank=8"], r"checkpoint\.save_contents: with LoRA"),
    # second owners of the window
    ("rl", [f"+{ROLLOUT}.engine_kwargs.vllm.hf_overrides={{sliding_window: 4}}"], r"hf_overrides.*set swarr\.window"),
    ("rl", [f"+{ROLLOUT}.engine_kwargs.vllm.disable_sliding_window=true"], r"disable_sliding_window.*remove it"),
    # the stop must be able to see
    ("rl", [f"{ROLLOUT}.calculate_log_probs=false"], r"calculate_log_probs=false.*max_probs_diff_mean=null"),
    ("rl", ["trainer.v1.trainer_mode=separate_async"], r"trainer_mode.*max_probs_diff_mean=null"),
    ("rl", ["swarr.max_excess_nll=much"], r"max_excess_nll=much is not a number"),
    ("rl", ["swarr.max_probs_diff_mean=2"], r"max_probs_diff_mean=2 is not a probability"),
]


@pytest.mark.parametrize(("kind", "overrides", "message"), BAD, ids=[bad[1][-1] for bad in BAD])
def test_bad_config(good, kind, overrides, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check(good(kind, *overrides))


def test_unsupported_family(good, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "glm4", "architectures": ["Glm4ForCausalLM"]}')
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'glm4'.*supported: qwen2"):
        check(good("sft", f"model.path={tmp_path}"))


def test_checkpoint_with_another_window(good, tmp_path):
    window = {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["sliding_attention"] * 3}
    tiny.config("qwen2", vocab_size=300, max_window_layers=0, **window).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"swarr\.window=8 .*, but the checkpoint at model\.path has the windows 16"):
        check(good("sft", f"model.path={tmp_path}"))


def test_wrong_columns(good, data, tmp_path):
    pd.DataFrame({"question": ["1+1"]}).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=r"data\.train_files: .*no column messages \(found: question\)"):
        check(good("sft", f"data.train_files={tmp_path}/bad.parquet"))
    with pytest.raises(ValueError, match=r"data\.val_files: .*no column prompt, data_source, reward_model"):
        check(good("rl", f"data.val_files=[{data}/rl_val.parquet,{tmp_path}/bad.parquet]"))


def test_window_without_the_group():
    with pytest.raises(SystemExit, match=r"swarr\.window is set, but no option.*\+swarr=rl"):
        check_command_line(["+swarr.window=64", "model.path=x"])
    check_command_line(["+swarr=rl", "swarr.window=64"])
    check_command_line(["trainer.device=cpu"])


def test_base_yaml_names_the_preflight():
    from swarr_verl.search_path import CONFIG_DIR

    base = OmegaConf.load(CONFIG_DIR / "swarr" / "base.yaml")
    assert base.hydra.callbacks.swarr._target_ == "swarr_verl.preflight.Preflight"
