# SPDX-License-Identifier: Apache-2.0
"""contest_lease.sh with a stub for Python: which part runs on which GPUs, and what each takes from another."""

import subprocess
from pathlib import Path

from contests import accepted, calls, environment, trained

ROOT = Path(__file__).parents[2]


def lease(env: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    command = ["bash", "examples/mismatch/contest_lease.sh", *words]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def test_parts_of_a_contest(tmp_path, checkpoint, data):
    cases = "*main_ppo*name=after*) sleep 4 ;;"  # so that its SFTs can be taken before it ends
    cases += "*contest.py* | *doctor) exit 0 ;;"
    smi, first = "echo 0; echo 1; echo 2; echo 3", f'case "$*" in {cases} esac'
    env = environment(tmp_path, tmp_path / "gsm8k" / "data", smi, first)
    (tmp_path / "gsm8k" / "model").symlink_to(checkpoint)
    (tmp_path / "gsm8k" / "work" / "results").mkdir(parents=True)
    for name, text in {"drawn_gsm8k.parquet": "drawn", "draw.seconds": "435"}.items():
        (tmp_path / "gsm8k" / "work" / "results" / name).write_text(text)
    (tmp_path / "out").mkdir()
    env |= {"LEASE": str(tmp_path / "gsm8k"), "OUT": str(tmp_path / "out"), "SITE": str(tmp_path / "site")}
    env["RUNS"] = "after low own more k1 topk"
    for words in (["start"], ["poll", "90"]):
        run = lease(env, *words)
    ends = {name: (tmp_path / name / "exit").read_text().strip() for name in env["RUNS"].split()}
    assert set(ends.values()) == {"0"}, run.stdout

    work = {part: tmp_path / part / "work" for part in ends}
    stages = {(part, name): call for part in ends for name, call in trained(calls(work[part])).items()}
    gpus = {
        ("after", "SA"): "0",
        ("after", "rationales"): "1",
        ("after", "after"): "0,1",
        ("low", "low"): "2",
        ("low", "rl_low"): "2",
        ("own", "own"): "3",
        ("more", "half"): "3",
        ("more", "distill"): "3,1",
        ("more", "both"): "3,1",
        ("k1", "after"): "3,1",
        ("topk", "after"): "2,1",
    }
    assert {key: call["gpus"] for key, call in stages.items()} == gpus
    first, second, third = (stages[part, "after"]["words"] for part in ("after", "k1", "topk"))
    assert "trainer.total_training_steps=40" in first and "trainer.total_training_steps=10" in second
    assert "distillation.distillation_loss.loss_mode=k1" in second
    config = accepted(third, data, checkpoint)
    assert config.distillation.distillation_loss.loss_mode == "forward_kl_topk"
    assert not config.distillation.distillation_loss.use_policy_gradient
    assert config.actor_rollout_ref.actor.optim.lr == 1e-5 and "trainer.total_training_steps=40" in third
    assert f"actor_rollout_ref.model.path={tmp_path}/k1/work/rationales/global_step_234/huggingface" in second
    teacher = "distillation.teacher_models.teacher_model.model_path"
    for name in ("distill", "both"):
        assert f"{teacher}={tmp_path}/more/work/SA/global_step_234/huggingface" in stages["more", name]["words"]
    for key in (("after", "after"), ("k1", "after"), ("topk", "after"), ("more", "both"), ("low", "rl_low")):
        assert accepted(stages[key]["words"], data, checkpoint).swarr.window == 96
    assert (work["after"] / "results" / "served.json").exists()
    assert not any("selfdistill" in call["words"] for call in calls(work["own"])), "drawn already"
    assert (work["own"] / "results" / "drawn_gsm8k.parquet").read_text() == "drawn"
    assert not list(tmp_path.glob("*/work/after/global_step_*")), "weights"

    low = work["low"]  # as if its RL were at step 20
    saved = low / "rl_low" / "global_step_20" / "actor" / "huggingface"
    saved.mkdir(parents=True)
    (low / "rl_low" / "latest_checkpointed_iteration.txt").write_text("20")
    for made in (low.parent / "exit", low / "results" / "eval_rl_low.json", low / "calls"):
        made.unlink()
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as rl:
        (low.parent / "pid").write_text(str(rl.pid))
        lease(env, "finish")
    lease(env, "poll", "60")
    asked = [call["words"] for call in calls(low)]
    (judged,) = (words for words in asked if words[0].endswith("evaluate.py") and "results/eval_rl_low" in words)
    assert str(saved) in judged and not any("verl.trainer.main_ppo" in words for words in asked)

    for made in ("exit", "work/results/eval_own.json"):
        (tmp_path / "own" / made).unlink()
    said = {part: len(calls(work[part])) for part in work}
    env["RUNS"] = "own"
    lease(env, "start")
    assert "low exit" not in lease(env, "poll", "60").stdout
    assert {part for part in work if len(calls(work[part])) > said[part]} == {"own"}
