# SPDX-License-Identifier: Apache-2.0
"""contest.sh with a stub for Python: what each stage works on, on which GPU, and that verl accepts the distillation."""

import subprocess
from pathlib import Path

import pytest
from contests import accepted, calls, environment, trained

SCRIPT = Path(__file__).parents[2] / "examples" / "mismatch" / "contest.sh"


def contest(folder: Path, checkpoint: Path, smi: str, **knobs: str) -> list[dict]:
    """Run it with a nvidia-smi that says `smi`; the calls of Python that it made, but for `doctor`."""
    work = folder / "work"
    (work / "calls").unlink(missing_ok=True)
    env = environment(folder, folder / "data", smi)
    env |= {"MODEL": str(checkpoint), "DATA": str(folder / "data"), "WORK": str(work), **knobs}
    run = subprocess.run(["bash", str(SCRIPT)], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "finished; missing: none" in run.stdout, run.stdout + run.stderr
    return [call for call in calls(work) if call["words"][-1] != "doctor"]


@pytest.fixture
def on_gpus(tmp_path, checkpoint):
    return contest(tmp_path, checkpoint, "echo 0; echo 1")


def test_five_conversions_and_rl_from_the_best_two(on_gpus, tmp_path, checkpoint):
    stages = trained(on_gpus)
    converted = {"SA", "rationales", "own", "low", "distill", "half", "both"}
    assert set(stages) == converted | {"rl_SA", "rl_distill", "rl_low"}
    work = tmp_path / "work"
    wanted = {
        "rationales": f"data.train_files={work}/data/gsm8k/sft.parquet",
        "own": f"data.train_files={work}/results/drawn_gsm8k.parquet",
        "low": f"data.train_files={work}/data/low_1/sft.parquet",
        "distill": f"distillation.teacher_models.teacher_model.model_path={work}/SA/global_step_234/huggingface",
        "half": "trainer.total_training_steps=117",
        "both": f"actor_rollout_ref.model.path={work}/half/global_step_117/huggingface",
        "rl_low": f"actor_rollout_ref.model.path={work}/low/global_step_234/huggingface",
        "rl_distill": f"actor_rollout_ref.model.path={work}/distill/global_step_6/huggingface",
    }
    for name, word in wanted.items():
        assert word in stages[name]["words"], name
        assert "swarr.window=96" in stages[name]["words"], name
    assert not any(word.startswith("swarr.window") for word in stages["SA"]["words"])
    assert "swarr.window=1536" in stages["rl_SA"]["words"]
    assert stages["distill"]["gpus"] is stages["both"]["gpus"] is None, "all of them"
    assert {call["gpus"] for name, call in stages.items() if name not in ("distill", "both")} == {"0", "1"}
    assert "trainer.total_training_steps=3" in stages["both"]["words"]
    assert wanted["distill"] in stages["both"]["words"], "the same teacher"
    (served,) = (call["words"] for call in on_gpus if "--served" in call["words"])
    for option, name in {"--model": "SA", "--served": "rationales"}.items():
        assert served[served.index(option) + 1] == f"{work}/{name}/global_step_234/huggingface"
    assert (work / "results" / "served.json").exists()
    table = (work / "results" / "contest.md").read_text()
    assert "| on-policy distillation | - | 0.7 | 60.0 " in table and " 67 [" in table
    assert not list(work.glob("*/global_step_*")), "weights"

    again = contest(tmp_path, checkpoint, "echo 0; echo 1")
    assert [Path(call["words"][0]).name for call in again] == ["contest.py"]


@pytest.mark.parametrize("smi", ["echo 0; echo 1", "exit 1"], ids=["GPUs", "CPU"])
def test_verl_accepts_the_distillation(tmp_path, checkpoint, data, smi):
    """The plugin's and verl's own checks, on the driver."""
    words = trained(contest(tmp_path, checkpoint, smi, CONVERSIONS="distill", BEST="0"))["distill"]["words"]
    config = accepted(words, data, checkpoint)
    assert config.distillation.enabled and config.actor_rollout_ref.actor.optim.lr == 1e-5
    assert ("+swarr=[distill,cpu_distill]" in words) == (smi == "exit 1")


def test_distilled_after_all_of_sft_and_no_rl(tmp_path, checkpoint):
    knobs = {"CONVERSIONS": "rationales after", "BEST": "0", "DISTILL_STEPS": "40"}
    stages = trained(contest(tmp_path, checkpoint, "echo 0; echo 1", **knobs))
    assert set(stages) == {"SA", "rationales", "after"}
    words = stages["after"]["words"]
    assert f"actor_rollout_ref.model.path={tmp_path}/work/rationales/global_step_234/huggingface" in words
    assert "trainer.total_training_steps=40" in words and stages["after"]["gpus"] is None
    assert "| all of that SFT, then all of the distillation |" in (tmp_path / "work/results/contest.md").read_text()
