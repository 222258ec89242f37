# SPDX-License-Identifier: Apache-2.0
"""Every option composes against verl's real trees, and sets no key that verl would silently ignore."""

from dataclasses import fields
from pydoc import locate

import pytest
from omegaconf import DictConfig, OmegaConf
from trees import tree

from swarr_verl.search_path import CONFIG_DIR

OPTIONS = {
    "sft": ["sft", "[sft,cpu_sft]", "cpu_sft"],
    "rl": ["rl", "grpo", "dapo", "[rl,cpu_rl]", "[grpo,cpu_rl]", "[dapo,cpu_rl]", "eval", "[eval,cpu_rl]"]
    + ["distill", "[distill,cpu_distill]"],
}
# Keys that are new to verl's tree, each with its reader.
READ_BY = {
    "swarr.": "the plugin",
    "hydra.": "Hydra",
    "model.swarr": "SwarrModelConfig",
    "model.override_config.": "verl: HFModelConfig.override_config, a free dict",
    "mixed_precision.": "verl: FSDPEngineConfig.mixed_precision, a free dict",
    "engine_kwargs.vllm.": "vLLM's own arguments",
    "reward.reward_kwargs.": "verl: DAPORewardManager",
    "ray_kwargs.ray_init.": "ray.init",
}
CASES = [(kind, option) for kind, options in OPTIONS.items() for option in options]


def leaves(node, prefix: str = "") -> set[str]:
    if isinstance(node, dict) and node:
        return set().union(*(leaves(child, f"{prefix}.{key}" if prefix else key) for key, child in node.items()))
    return {prefix}


def is_field(composed: DictConfig, key: str) -> bool:
    """Whether verl's dataclass of the node has the key, though verl's yaml leaves it out."""
    node, _, name = key.rpartition(".")
    target = OmegaConf.select(composed, f"{node}._target_")
    return target is not None and name in {field.name for field in fields(locate(target))}


def unknown_keys(kind: str, composed: DictConfig) -> set[str]:
    stock = leaves(OmegaConf.to_container(tree(kind)))
    new = leaves(OmegaConf.to_container(composed)) - stock
    free = {key for key in new if any(part in f"{key}." for part in READ_BY)}
    return {key for key in new - free if not is_field(composed, key)}


def test_every_file_is_covered():
    files = {path.stem for path in (CONFIG_DIR / "swarr").glob("*.yaml")}
    named = {name for _, option in CASES for name in option.strip("[]").split(",")}
    assert files == named | {"base"}


@pytest.mark.parametrize(("kind", "option"), CASES)
def test_no_key_that_verl_ignores(kind, option):
    assert unknown_keys(kind, tree(kind, f"+swarr={option}")) == set()


def test_the_check_finds_a_typo_and_a_wrong_tree():
    assert unknown_keys("rl", tree("rl", "+swarr=rl", "+actor_rollout_ref.rollout.nmae=x"))
    assert unknown_keys("rl", tree("rl", "+swarr=sft"))


@pytest.mark.parametrize(("kind", "option"), [case for case in CASES if case[1] != "cpu_sft"])
def test_one_knob_feeds_every_side(kind, option):
    config = tree(kind, f"+swarr={option}", "swarr.window=96")
    models = [config.model] if kind == "sft" else [config.actor_rollout_ref.model, config.critic.model]
    for model in models:
        assert model.swarr.window == 96
        assert model._target_ == "swarr_verl.model.SwarrModelConfig"


def test_dapo_is_dapo():
    config = tree("rl", "+swarr=dapo")
    actor = config.actor_rollout_ref.actor
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.loss_agg_mode) == (0.2, 0.28, "token-mean")
    assert not actor.use_kl_loss and not config.algorithm.use_kl_in_reward
    overlong = config.reward.reward_kwargs
    assert overlong.overlong_buffer_cfg.enable and overlong.max_resp_len == config.data.max_response_length
    assert config.algorithm.filter_groups.enable


def test_verl_builds_its_dataclasses_from_the_composed_trees():
    from verl.utils.config import omega_conf_to_dataclass

    config = tree("rl", "+swarr=[dapo,cpu_rl]")
    for node in (config.actor_rollout_ref.rollout, config.algorithm, config.actor_rollout_ref.actor.fsdp_config):
        omega_conf_to_dataclass(node)
    omega_conf_to_dataclass(tree("sft", "+swarr=[sft,cpu_sft]").engine)
