# SPDX-License-Identifier: Apache-2.0
"""Checks before any GPU minute is spent: the command line at `import verl`, the composed config at job start.

Hydra turns an exception of a callback into a warning, and verl swallows one of a plugin; both let SystemExit pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from swarr_verl.window import WindowError, WindowSpec

WRAPPER = "swarr_verl.model.SwarrModelConfig"


class PreflightError(ValueError):
    """The config cannot run as asked. The message names the Hydra key and the remedy."""


def _stop(error: Exception) -> NoReturn:
    sys.exit(f"[swarr] {error}")


def check_command_line(arguments: list[str]) -> None:
    """Refuse knobs without the group: Hydra would take `+swarr.window=64` alone as a new key that nobody reads.

    Args:
        arguments: `sys.argv[1:]`.

    Raises:
        SystemExit: a `swarr.` override without `+swarr=NAME`.
    """
    keys = [argument.lstrip("+~").split("=", 1)[0] for argument in arguments if "=" in argument]
    knobs = [key for key in keys if key.startswith("swarr.")]
    if knobs and not any(key.split("@")[0] == "swarr" for key in keys):
        _stop(
            PreflightError(
                f"{knobs[0]} is set, but no option of the group `swarr` is selected: no model would read it. "
                "Add +swarr=sft (verl.trainer.sft_trainer) or +swarr=rl, grpo, dapo, distill (verl.trainer.main_ppo)."
            )
        )


class Preflight(Callback):
    """Hydra callback of `hydra_configs/swarr/base.yaml`."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Stop the job with one clear line if the composed config cannot run as asked."""
        try:
            check(config)
        except ValueError as error:  # WindowError and PreflightError
            _stop(error)


def check(config: DictConfig) -> None:
    """Check a composed config of `verl.trainer.main_ppo` or `verl.trainer.sft_trainer`.

    Raises:
        PreflightError, WindowError: names the Hydra key and the remedy.
    """
    if OmegaConf.is_missing(config.swarr, "window"):
        raise PreflightError("swarr.window is not set: choose a window in tokens, e.g. swarr.window=4096.")
    WindowSpec.of(config.swarr)
    if "actor_rollout_ref" in config:
        _check_rl(config)
    else:
        _check_sft(config)


def _check_sft(config: DictConfig) -> None:
    if config.engine.strategy not in ("fsdp", "fsdp2"):
        raise PreflightError(
            f"engine.strategy={config.engine.strategy}: only fsdp and fsdp2 build the windowed model. Use engine=fsdp."
        )
    _check_files(config.data.train_files, "data.train_files", [config.data.messages_key])
    if config.data.val_files:
        _check_files(config.data.val_files, "data.val_files", [config.data.messages_key])
    _check_lora_checkpoint(config.model, config.checkpoint.save_contents, "checkpoint")
    _check_fused_kernels(_check_model(config.model, "model"), config.engine.strategy, "model")
    _check_ulysses(config.model, config.engine)


def _check_rl(config: DictConfig) -> None:
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.strategy not in ("fsdp", "fsdp2"):
        raise PreflightError(
            f"actor_rollout_ref.actor.strategy={actor.strategy}: only fsdp and fsdp2 build the windowed model. "
            "Use actor_rollout_ref.actor.strategy=fsdp2."
        )
    _check_rollout(rollout)
    _check_lora_rank(config.actor_rollout_ref.model)
    contents = actor.checkpoint.save_contents
    _check_lora_checkpoint(config.actor_rollout_ref.model, contents, "actor_rollout_ref.actor.checkpoint")
    _check_guard(config)
    columns = [config.data.prompt_key, config.data.reward_fn_key, "reward_model"]
    _check_files(config.data.train_files, "data.train_files", columns)
    _check_files(config.data.val_files, "data.val_files", columns)
    built = _check_model(config.actor_rollout_ref.model, "actor_rollout_ref.model")
    _check_fused_kernels(built, actor.strategy, "actor_rollout_ref.model")
    _check_ulysses(config.actor_rollout_ref.model, actor, actor.fsdp_config, config.actor_rollout_ref.ref)
    if config.distillation.enabled:
        from swarr_verl import distill  # imports verl, which imports this module

        distill.check(config, built)
    if config.swarr.need.model is not None:
        from swarr_verl import probe

        probe.check(config, built)
    if config.algorithm.adv_estimator == "gae":
        _check_model(config.critic.model, "critic.model")
        _check_ulysses(config.critic.model, config.critic, config.critic.fsdp)


def _check_rollout(rollout: DictConfig) -> None:
    """The backend, and each place where verl 0.9.1 does something for the literal name `vllm` only."""
    key = "actor_rollout_ref.rollout"
    if rollout.name != "swarr_vllm":
        reason = {
            "sglang": "SGLang ignores the window of Qwen2 and Qwen3",
            "trtllm": "TensorRT-LLM is not told the window",
            "vllm": "verl's own vLLM backend is not told the window of an unconverted checkpoint",
        }.get(rollout.name, "it is not known to honour a window")
        raise PreflightError(f"{key}.name={rollout.name}: {reason}. Use {key}.name=swarr_vllm.")
    if rollout.pipeline_model_parallel_size > 1:  # workers/config/rollout.py:320
        raise PreflightError(f"{key}.pipeline_model_parallel_size: verl's vLLM backend has none. Set it to 1.")
    if rollout.disaggregation.enabled:  # workers/config/rollout.py:341, workers/rollout/replica.py:411
        raise PreflightError(f"{key}.disaggregation.enabled: swarr_vllm does not split prefill and decode. Set false.")
    if rollout.checkpoint_engine.backend == "delta_sharded":  # checkpoint_engine/base.py:327
        raise PreflightError(f"{key}.checkpoint_engine.backend=delta_sharded accepts only vllm and sglang. Use naive.")
    if rollout.scheduling_policy != "fcfs":  # workers/rollout/llm_server.py:148 drops the priority
        raise PreflightError(f"{key}.scheduling_policy={rollout.scheduling_policy}: verl drops priorities. Use fcfs.")
    for owner in ("hf_overrides.sliding_window", "hf_overrides.layer_types", "disable_sliding_window"):
        if OmegaConf.select(rollout, f"engine_kwargs.vllm.{owner}"):
            raise PreflightError(
                f"{key}.engine_kwargs.vllm.{owner} is a second owner of the window: remove it, set swarr.window."
            )


def _lora_rank(model: DictConfig) -> int:
    return (model.get("lora") or {}).get("rank", 0) or model.get("lora_rank", 0)


def _check_lora_rank(model: DictConfig) -> None:
    """verl 0.9.1 (utils/config.py:212) checks the rank for the name `vllm` only."""
    rank = _lora_rank(model)
    if rank > 0 and not (model.get("lora") or {}).get("merge", False):
        from verl.workers.rollout.vllm_rollout.utils import get_vllm_max_lora_rank

        try:
            get_vllm_max_lora_rank(rank)
        except ValueError as error:
            raise PreflightError(f"actor_rollout_ref.model.lora_rank={rank}: {error}.") from error


def _check_lora_checkpoint(model: DictConfig, contents: ListConfig, key: str) -> None:
    """verl 0.9.1 writes `hf_model` under PEFT's names: transformers then starts from random weights (patches, 0012)."""
    if _lora_rank(model) > 0 and "hf_model" in contents:
        raise PreflightError(
            f"{key}.save_contents: with LoRA verl's hf_model cannot be loaded. Set "
            f"{key}.save_contents=[model,optimizer,extra]; `python -m verl.model_merger merge --backend fsdp` then "
            "makes a checkpoint and an adapter of it."
        )


def other_trainers(config: DictConfig) -> dict[str, bool]:
    """Settings by which verl runs a trainer that is not the plugin's, and whether they are so."""
    return {
        "trainer.v1.trainer_mode": OmegaConf.to_container(config.trainer.v1)["trainer_mode"] != "${swarr_trainer:}",
        "trainer.use_v1=false": not config.trainer.use_v1,
    }


def _check_guard(config: DictConfig) -> None:
    excess = config.swarr.max_excess_nll
    if excess is not None and (not isinstance(excess, (int, float)) or isinstance(excess, bool)):
        raise PreflightError(f"swarr.max_excess_nll={excess} is not a number: give nats a token, or null.")
    limit = config.swarr.max_probs_diff_mean
    if limit is None:
        return
    if not isinstance(limit, (int, float)) or not 0 < limit < 1:
        raise PreflightError(f"swarr.max_probs_diff_mean={limit} is not a probability: give 0 < limit < 1, or null.")
    blind = {
        "actor_rollout_ref.rollout.calculate_log_probs=false": not config.actor_rollout_ref.rollout.calculate_log_probs,
        "algorithm.rollout_correction.bypass_mode=true": config.algorithm.rollout_correction.get("bypass_mode", False),
        **other_trainers(config),
    }
    for key, is_blind in blind.items():
        if is_blind:
            raise PreflightError(
                f"{key} leaves swarr.max_probs_diff_mean without a measurement or without a reader: leave the key at "
                "the plugin's value, or set swarr.max_probs_diff_mean=null."
            )


def _check_model(model: DictConfig, key: str) -> Any:
    """Build the wrapper as every verl process will: window, family, checkpoint and kernel speak there. Returns it."""
    from hydra.errors import InstantiationException
    from verl.utils.config import omega_conf_to_dataclass

    _check_wrapper(model, key)
    path = Path(str(model.path)).expanduser()
    if path.is_absolute() and not (path / "config.json").is_file():
        raise PreflightError(f"{key}.path={model.path} holds no config.json: give a Hugging Face checkpoint folder.")
    try:
        return omega_conf_to_dataclass(model)
    except InstantiationException as error:
        if isinstance(error.__cause__, WindowError):
            raise error.__cause__ from None
        raise PreflightError(f"{key}: verl cannot build the model config: {error}") from error


def _check_fused_kernels(built: Any, strategy: str, key: str) -> None:
    """Under FSDP2 verl 0.9.1 shards an untied `lm_head` apart (utils/fsdp_utils.py:549); they then read a shard."""
    if built.use_fused_kernels and strategy == "fsdp2" and not built.hf_config.tie_word_embeddings:
        raise PreflightError(
            f"{key}.use_fused_kernels=true: with strategy=fsdp2 verl has them for models with tied embeddings only. "
            f"Set {key}.use_fused_kernels=false, or strategy=fsdp."
        )


def _check_ulysses(model: DictConfig, *engines: DictConfig) -> None:
    """A kernel asked for by name; an automatic choice speaks on the GPUs, where the model is built."""
    from swarr_verl import attention

    kernel = (model.get("override_config") or {}).get("attn_implementation")
    for engine in engines:
        if kernel is not None:
            attention.check(kernel, engine.get("ulysses_sequence_parallel_size", 1))


def _check_wrapper(model: DictConfig, key: str) -> None:
    if model.get("_target_") != WRAPPER:
        raise PreflightError(
            f"swarr.window is set, but {key}._target_={model.get('_target_')} would build a dense model. "
            f"Use {key}._target_={WRAPPER} (it comes with +swarr=sft and +swarr=rl)."
        )


def _check_files(files: str | list[str] | ListConfig, key: str, columns: list[str]) -> None:
    """Local files must exist; parquet files must have the columns. Remote files are verl's to fetch."""
    import pyarrow.parquet as parquet

    for name in [files] if isinstance(files, str) else list(files or []):
        if "://" in name:
            continue
        path = Path(name).expanduser()
        if not path.is_file():
            raise PreflightError(f"{key}: {name} does not exist. Give a parquet file in verl's format.")
        if path.suffix != ".parquet":
            continue
        found = parquet.read_schema(path).names
        missing = [column for column in columns if column not in found]
        if missing:
            raise PreflightError(
                f"{key}: {name} has no column {', '.join(missing)} (found: {', '.join(found)}). "
                "See README, 'Data', for the columns of verl's format."
            )
