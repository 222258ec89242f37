# SPDX-License-Identifier: Apache-2.0
"""Seconds that one process of verl takes for old log-probs and update of made-up rollouts: no generation, no Ray.

`python examples/kernels/update.py MODEL [key=value ...]`, with the keys of SETTINGS; a comma in a value makes several
settings of it, run one after the other in this process, a line each; the first of `repeats` is warm-up.
`profile=true` adds where Python's time goes. On a CPU: a tiny model and `attention=torch_varlen`.
"""

import cProfile
import gc
import os
import pstats
import sys
import time
from functools import partial
from itertools import product
from types import SimpleNamespace

SETTINGS = dict(
    window=96,
    rows=512,  # rollouts of a step
    minibatches=4,
    prompt=107,  # tokens, on average; from half of it to half as much again
    response=103,
    tokens=16384,  # of a micro-batch
    strategy="fsdp2",
    columns=0,  # of text: verl sends the data set's along, swarr_sync does not
    bounds=True,  # packed rows told once, not found in every layer
    attention="",  # empty: the fastest that runs here
    emptied=False,  # the allocator's cache before each run, as verl does at a weight sync
    expandable=False,  # segments of the allocator, as verl has them after one
    repeats=3,
    profile=False,
)


def parsed(words: list[str]) -> list[SimpleNamespace]:
    """Every combination of the values given."""
    given = dict(word.split("=", 1) for word in words)
    if unknown := given.keys() - SETTINGS.keys():
        raise SystemExit(f"{', '.join(unknown)}: not one of {', '.join(SETTINGS)}")

    def value(key: str, text: str):
        kind = type(SETTINGS[key])
        return text == "true" if kind is bool else kind(text)

    choices = {key: [value(key, text) for text in given[key].split(",")] for key in given}
    return [
        SimpleNamespace(**{**SETTINGS, **dict(zip(choices, one, strict=True))}) for one in product(*choices.values())
    ]


def rollouts(s: SimpleNamespace, vocabulary: int):
    """What verl's trainer sends its actor, drawn at random."""
    import torch
    from verl.utils import tensordict_utils as tu

    draw = torch.Generator().manual_seed(0)
    prompts, responses = (
        [torch.randint(vocabulary, (int(n),), generator=draw) for n in lengths]
        for lengths in (
            torch.randint(mean // 2, mean * 3 // 2, (s.rows,), generator=draw) for mean in (s.prompt, s.response)
        )
    )
    whole = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
    fields = dict(
        prompts=prompts,
        responses=responses,
        input_ids=whole,
        position_ids=[torch.arange(len(row)) for row in whole],
        response_mask=[torch.ones_like(row) for row in responses],
        loss_mask=[torch.ones_like(row) for row in responses],
        old_log_probs=[torch.full((len(row),), -12.0) for row in responses],
        advantages=[torch.randn(len(row), generator=draw) for row in responses],
    )
    nested = {key: torch.nested.as_nested_tensor(rows, layout=torch.jagged) for key, rows in fields.items()}
    nested |= {f"text{column}": tu.NonTensorStack(*["7"] * s.rows) for column in range(s.columns)}
    lengths = [len(row) for row in whole]
    return tu.get_tensordict(
        nested, dict(temperature=1.0, global_batch_size=s.rows // s.minibatches, global_token_num=lengths)
    )


def worker(model: str, s: SimpleNamespace):
    """verl's training worker, with our engine, as stages.sh sets it."""
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPActorConfig, FSDPEngineConfig, FSDPOptimizerConfig
    from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig
    from verl.workers.utils.losses import ppo_loss

    from swarr_verl.model import SwarrModelConfig

    optimizer = FSDPOptimizerConfig(lr=1e-9, total_training_steps=1000)
    built = TrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=SwarrModelConfig(
                path=model,
                swarr={"window": s.window, "layers": "all"},
                use_remove_padding=True,
                enable_gradient_checkpointing=False,
                override_config={"attn_implementation": s.attention} if s.attention else {},
            ),
            engine_config=FSDPEngineConfig(
                strategy=s.strategy,
                use_dynamic_bsz=True,
                max_token_len_per_gpu=s.tokens,
                infer_max_token_len_per_gpu=s.tokens,
                use_torch_compile=False,
                entropy_from_logits_with_chunking=True,
            ),
            optimizer_config=optimizer,
            checkpoint_config=CheckpointConfig(),
        )
    )
    actor = FSDPActorConfig(
        strategy=s.strategy, rollout_n=8, ppo_mini_batch_size=8, ppo_micro_batch_size_per_gpu=1, optim=optimizer
    )
    built.set_loss_fn(partial(ppo_loss, config=actor))
    built.reset()
    return built


def steps(built, batch, s: SimpleNamespace) -> dict:
    """What is timed, by name."""
    from verl.utils import tensordict_utils as tu

    def old_log_prob():
        data = batch.clone()
        tu.assign_non_tensor(data, calculate_entropy=True, compute_loss=False)
        built.infer_batch(data)

    def update():
        data = batch.clone()
        tu.assign_non_tensor(
            data, calculate_entropy=False, mini_batch_size=len(data) // s.minibatches, epochs=1, seed=1
        )
        tu.assign_non_tensor(data, dataloader_kwargs={"shuffle": False})
        built.train_mini_batch(data)

    return {"old_log_prob": old_log_prob, "update": update}


def main() -> None:
    os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", WORLD_SIZE="1", RANK="0", LOCAL_RANK="0")
    model, settings = sys.argv[1], parsed(sys.argv[2:])
    from transformers import AutoConfig
    from verl.utils.device import get_torch_device, set_expandable_segments
    from verl.utils.distributed import initialize_global_process_group

    from swarr_verl import attention

    told = attention.row_bounds
    initialize_global_process_group()
    device = get_torch_device()
    for s in settings:
        device.reset_peak_memory_stats()
        set_expandable_segments(s.expandable)
        attention.row_bounds = told if s.bounds else lambda offsets: {}
        built = worker(model, s)
        runs = steps(built, rollouts(s, AutoConfig.from_pretrained(model).vocab_size), s)
        line = []
        for name, run in runs.items():
            seconds = []
            for _ in range(s.repeats):
                if s.emptied:
                    device.empty_cache()
                device.synchronize()
                start = time.perf_counter()
                run()
                device.synchronize()
                seconds.append(f"{time.perf_counter() - start:.2f}")
            line.append(f"{name} {' '.join(seconds)} s")
        print(vars(s), "|", "; ".join(line), f"; {device.max_memory_reserved() / 2**30:.0f} GiB reserved", flush=True)
        if s.profile:
            for name, run in runs.items():
                with cProfile.Profile() as profile:
                    run()
                print(name)
                pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
        del built, runs
        gc.collect()
        device.empty_cache()


if __name__ == "__main__":
    main()
