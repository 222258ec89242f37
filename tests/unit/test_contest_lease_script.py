# SPDX-License-Identifier: Apache-2.0
"""contest_lease.sh with a stub for Python: which part runs on which GPUs, and what each takes from another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import contest_stub
from trees import changed, tree

from swarr_verl.preflight import check

ROOT = Path(__file__).parents[2]


def lease(env: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    command = ["bash", "examples/mismatch/contest_lease.sh", *words]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def accepts(words: list[str], data: Path, checkpoint: Path) -> None:
    """verl's checks and the plugin's, of a call of main_ppo, whose own weights are gone."""
    overrides = [word for word in words[words.index("verl.trainer.main_ppo") + 1 :] if not word.startswith("hydra.")]
    keys = ["actor_rollout_ref.model.path", "swarr.need.model"]
    if any("distillation" in word for word in overrides):
        keys = [keys[0], "distillation.teacher_models.teacher_model.model_path"]
    config = changed(tree("rl", *overrides), *(f"{key}={checkpoint}" for key in keys))
    check(changed(config, f"data.train_files={data}/rl_train.parquet", f"data.val_files={data}/rl_val.parquet"))


def test_parts_of_a_contest(tmp_path, checkpoint, data):
    cases = "*main_ppo*name=after*) sleep 4 ;;"  # so that its SFTs can be taken before it ends
    cases += "*contest.py* | *doctor) exit 0 ;;"
    stub = f'#!/bin/sh\ncase "$*" in {cases} esac\nexec "{sys.executable}" "{contest_stub.__file__}" "$@"'
    for name, text in {"nvidia-smi": "#!/bin/sh\nprintf '0\\n1\\n2\\n3\\n'", "stub": stub}.items():
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o755)
    rows = tmp_path / "gsm8k" / "data"
    for folder in (rows, tmp_path / "out"):
        folder.mkdir(parents=True)
    (tmp_path / "gsm8k" / "model").symlink_to(checkpoint)
    (tmp_path / "gsm8k" / "work" / "results").mkdir(parents=True)
    for name, text in {"drawn_gsm8k.parquet": "drawn", "draw.seconds": "435"}.items():
        (tmp_path / "gsm8k" / "work" / "results" / name).write_text(text)
    for name in ("train", "test"):
        (rows / f"{name}.jsonl").write_text("{}\n")
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env |= {"LEASE": str(tmp_path / "gsm8k"), "PYTHON": str(tmp_path / "stub"), "OUT": str(tmp_path / "out")}
    env |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SITE": str(tmp_path / "site")}
    for words in (["start"], ["poll", "90"]):
        run = lease(env, *words)
    ends = {name: (tmp_path / name / "exit").read_text().strip() for name in ("after", "low", "own", "more", "k1")}
    assert set(ends.values()) == {"0"}, run.stdout

    trained = {}
    for part in ends:
        for line in (tmp_path / part / "work" / "calls").read_text().splitlines():
            call = json.loads(line)
            for word in call["words"]:
                if word.startswith("trainer.experiment_name="):
                    trained[part, word.partition("=")[2]] = call
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
        ("k1", "after"): "0,1",
    }
    assert {key: call["gpus"] for key, call in trained.items()} | {("more", "half"): "3"} == gpus
    first, second = (trained[part, "after"]["words"] for part in ("after", "k1"))
    assert "trainer.total_training_steps=40" in first and "trainer.total_training_steps=10" in second
    assert "distillation.distillation_loss.loss_mode=k1" in second
    assert f"actor_rollout_ref.model.path={tmp_path}/k1/work/rationales/global_step_234/huggingface" in second
    teacher = "distillation.teacher_models.teacher_model.model_path"
    for name in ("distill", "both"):
        assert f"{teacher}={tmp_path}/more/work/SA/global_step_234/huggingface" in trained["more", name]["words"]
    for key in (("after", "after"), ("k1", "after"), ("more", "both"), ("low", "rl_low")):
        accepts(trained[key]["words"], data, checkpoint)
    assert (tmp_path / "after" / "work" / "results" / "served.json").exists()
    assert ("own", "draw") not in trained and (tmp_path / "own/work/results/drawn_gsm8k.parquet").read_text() == "drawn"
    assert not list(tmp_path.glob("*/work/after/global_step_*")), "weights"

    low = tmp_path / "low"  # as if its RL were at step 20
    saved = low / "work" / "rl_low" / "global_step_20" / "actor" / "huggingface"
    saved.mkdir(parents=True)
    (low / "work" / "rl_low" / "latest_checkpointed_iteration.txt").write_text("20")
    for made in (low / "exit", low / "work" / "results" / "eval_rl_low.json", low / "work" / "calls"):
        made.unlink()
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as rl:
        (low / "pid").write_text(str(rl.pid))
        lease(env, "finish")
    lease(env, "poll", "60")
    calls = [json.loads(line)["words"] for line in (low / "work" / "calls").read_text().splitlines()]
    (judged,) = (words for words in calls if words[0].endswith("evaluate.py") and "results/eval_rl_low" in words)
    assert str(saved) in judged and not any("verl.trainer.main_ppo" in words for words in calls)
