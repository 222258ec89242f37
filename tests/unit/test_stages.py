# SPDX-License-Identifier: Apache-2.0
"""stages.sh: which GPU a stage gets. pieces.sh: what travels is whole at the other end. lease.sh: a run cut short."""

import functools
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BESIDE = """
set -euo pipefail
MODEL=model DATA= WORK=$PWD py=python here={here} JOBS=2
. "$here/stages.sh"
stage() {{ echo "$1 on $CUDA_VISIBLE_DEVICES" >> began; until [ -e "end_$1" ]; do sleep 0.05; done; }}
for name in a b c d; do beside stage "$name"; done
(until [ "$(wc -l < began)" = 4 ]; do sleep 0.05; done; touch end_d; sleep 0.5; touch end_{{a,b,c,e}}) &
beside stage e
wait
"""


def begun(folder: Path, smi: str, **env: str) -> list[str]:
    """What `stage` was given, with a nvidia-smi that says `smi`."""
    fake = folder / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{smi}\n")
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **env}
    script = BESIDE.format(here=EXAMPLES / "gsm8k")
    if "CUDA_VISIBLE_DEVICES" not in env:
        script = f"unset CUDA_VISIBLE_DEVICES\n{script}"
    subprocess.run(["bash", "-c", script], cwd=folder, env=env, check=True, timeout=60)
    return (folder / "began").read_text().splitlines()


def test_two_gpus_get_stages_in_turn(tmp_path):
    first, last = (found := begun(tmp_path, "echo 0; echo 1"))[:4], found[4]
    assert sorted(first) == ["a on 0", "b on 1", "c on 0", "d on 1"]
    assert last == "e on 1", "the place that d left"


def test_the_users_choice_of_gpus_holds(tmp_path):
    env = {"CUDA_VISIBLE_DEVICES": "3,1"}
    assert sorted(begun(tmp_path, "echo 0; echo 1; echo 2; echo 3", **env)[:4]) == [
        "a on 3",
        "b on 1",
        "c on 3",
        "d on 1",
    ]


def test_pieces_join_to_what_was_cut_up(tmp_path):
    checkout, there = tmp_path / "checkout", tmp_path / "there"
    (checkout / ".lease" / "part" / "deep").mkdir(parents=True)
    (checkout / "tracked").write_bytes(bytes(1000))
    (checkout / ".gitignore").write_text(".lease/\n")
    load = {"one": os.urandom(2 << 20), "deep/two": b"small"}
    for name, content in load.items():
        (checkout / ".lease" / "part" / name).write_bytes(content)
    bash = ["bash", "-euo", "pipefail", "-c"]
    source = f". {EXAMPLES}/pieces.sh"
    options = {"cwd": checkout, "check": True, "timeout": 60, "env": {**os.environ, "CALL": "1"}}
    subprocess.run([*bash, f"git init -q . && git add -A && {source} && cut_up part"], **options)
    pieces = sorted((checkout / ".lease").glob("part??/part??"))
    assert len(pieces) == 3 and all(piece.stat().st_size + 1000 < 1 << 20 for piece in pieces)
    for piece in pieces:  # one call after the other, each with its own
        subprocess.run([*bash, f"{source} && keep part {there}"], **options)
        piece.unlink()
        piece.parent.rmdir()
    subprocess.run([*bash, f"{source} && join part {there}"], **options)
    assert {name: (there / name).read_bytes() for name in load} == load
    assert not list(there.glob("part*"))


@pytest.fixture
def lease(tmp_path):
    """Calls lease.sh, whose only example is a stub, written by the test."""
    (tmp_path / "examples" / "stub").mkdir(parents=True)
    (tmp_path / "examples" / "pieces.sh").symlink_to(EXAMPLES / "pieces.sh")
    env = {**os.environ, "LEASE": str(tmp_path / "lease"), "SITE": str(tmp_path / "site"), "EXAMPLE": "stub"}
    env |= {"SCRIPT": "cells.sh", "PYTHON": sys.executable, "OUT": str(tmp_path)}

    def call(*words: str, **more: str) -> str:
        command = ["bash", str(EXAMPLES / "gsm8k" / "lease.sh"), *words]
        options = {"cwd": tmp_path, "env": {**env, **more}, "check": True, "timeout": 60, "text": True}
        return subprocess.run(command, stdout=subprocess.PIPE, **options).stdout

    return call


def packed(out: Path) -> set[str]:
    """What comes back."""
    with tarfile.open(out / "results.tar.gz.00") as parts:
        return {os.path.normpath(name) for name in parts.getnames()} - {"."}


def test_finish_takes_the_step_that_all_cells_have(tmp_path, lease):
    """verl ends the file without a line end, so that they run together when read at once."""
    work = tmp_path / "lease" / "work"
    for name, step in {"rl_SA_1": "100", "rl_SWA_1": "100", "rl_SWA_2": "80"}.items():
        (work / name).mkdir(parents=True)
        (work / name / "latest_checkpointed_iteration.txt").write_text(step)
    (tmp_path / "examples" / "stub" / "cells.sh").write_text(
        'echo "$STEPS $CELLS" >> "$WORK/began"; [ "$STEPS" = 80 ] || sleep 60\n'
    )
    lease = functools.partial(lease, CELLS="SA_1 SWA_1 SWA_2")
    lease("start", STEPS="120")
    while not (work / "began").exists():
        time.sleep(0.05)
    assert "step 80" in lease("finish")
    assert "exit: 0" in lease("poll", "30")
    assert packed(tmp_path) == {"results", "logs", "logs/run.log"}
    assert (work / "began").read_text().splitlines() == ["120 SA_1 SWA_1 SWA_2", "80 SA_1 SWA_1 SWA_2"]


def test_scripts_one_after_another_come_back_together(tmp_path, lease):
    (tmp_path / "examples" / "stub" / "cells.sh").write_text(
        'cat "$BEFORE" > "$WORK/results/found" 2> /dev/null || sleep 1; echo done > "$WORK/results/end"\n'
    )
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    lease("start", LEASE=second, AFTER=first, BEFORE=f"{first}/work/results/end")
    lease("start", LEASE=first, BEFORE="nothing")
    text = lease("poll", "30", ALL=f"{first} {second}")
    assert f"{first} exit: 0" in text and f"{second} exit: 0" in text
    assert (tmp_path / "second" / "work" / "results" / "found").read_text() == "done\n"
    assert {"first/results/end", "second/results/found", "second/logs/run.log"} <= packed(tmp_path)


def test_a_poll_ends_while_a_script_runs_and_tells_of_one_that_failed(tmp_path, lease):
    (tmp_path / "examples" / "stub" / "cells.sh").write_text(
        'echo "why: $HOW"; [ "$HOW" = well ] && sleep 30; exit 3\n'
    )
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    lease("start", LEASE=first, HOW="well")
    lease("start", LEASE=second, HOW="badly")
    while not (tmp_path / "second" / "exit").exists():
        time.sleep(0.05)
    text = lease("poll", "1", ALL=f"{first} {second} {tmp_path}/not_begun")
    assert f"{first} exit: running" in text and f"{second} exit: 3" in text and text.count("why: badly") == 2
    lease("stop", LEASE=first)
