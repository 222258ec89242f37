# SPDX-License-Identifier: Apache-2.0
"""Real processes: the doctor in whole environments, sound and broken; verl's entry points on bad input."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sites import CHECKOUT, fake_distribution, packages_without_plugin, venv

from swarr_verl import doctor


def run_doctor(python: Path | str = sys.executable, cwd: Path = CHECKOUT, **environment: str) -> tuple[int, dict, str]:
    """Exit code, {label: ok or MISS}, and the output of the real command."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VERL_PLATFORM")}
    command = [python, "-m", "swarr_verl", "doctor"]
    done = subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=300)
    rows = [line for line in done.stdout.splitlines() if line.startswith(("ok ", "MISS "))]
    return done.returncode, {line[6:26].strip(): line[:4].strip() for line in rows}, done.stdout + done.stderr


def test_this_environment_is_healthy(tmp_path):
    code, rows, output = run_doctor(cwd=tmp_path)
    assert set(rows.values()) == {"ok"} and set(rows) == set(doctor.ROWS), output
    assert code == 0


def test_wrong_versions(tmp_path):
    for name, version in {"hydra-core": "1.4.0", "verl": "0.8.0", "vllm": "0.10.0"}.items():
        fake_distribution(tmp_path, name, version)
    code, rows, output = run_doctor(PYTHONPATH=str(tmp_path))
    assert [rows[name] for name in ("hydra-core", "verl", "vllm", "math-verify")] == [
        "MISS",
        "MISS",
        "MISS",
        "ok",
    ]
    for remedy in ("hydra-core>=1.3.2,<1.4", "verl>=0.9.1,<0.10", "vllm==0.24.0"):
        assert f"remedy: pip install '{remedy}'" in output
    assert code == 1


def test_excluded_plugin():
    code, rows, output = run_doctor(VERL_USE_EXTERNAL_PLUGINS="none")
    assert rows["verl.plugins"] == rows["plugin"] == rows["config group"] == rows["rollout"] == "MISS", output
    assert "remedy: unset VERL_USE_EXTERNAL_PLUGINS, or add swarr to it" in output
    assert code == 1


def test_broken_plugin(tmp_path):
    """verl swallows the error, and Hydra finds the group: only the doctor says what is wrong."""
    package = tmp_path / "swarr_verl"
    shutil.copytree(CHECKOUT / "swarr_verl", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "hydra_configs", package / "hydra_configs")
    plugin = package / "plugin.py"
    registered = "Plugins.instance().register(SwarrSearchPath)\n"
    assert registered in plugin.read_text()
    plugin.write_text(plugin.read_text().replace(registered, registered + "import not_a_module\n"))
    code, rows, output = run_doctor(cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "MISS  plugin                ModuleNotFoundError: No module named 'not_a_module'" in output
    assert f"remedy: mend the error at {plugin}:" in output
    assert (rows["verl.plugins"], rows["config group"], rows["rollout"]) == ("ok", "ok", "MISS"), output
    assert code == 1


def test_plugin_not_installed(tmp_path):
    """A checkout without `pip install`: the package imports from the folder, verl knows nothing of it."""
    python = venv(tmp_path / "venv", packages_without_plugin(tmp_path / "packages"))
    code, rows, output = run_doctor(python)
    assert rows["verl"] == rows["hydra-core"] == "ok", output
    for row in ("swarr-verl", *doctor.ENTRY_POINTS, "plugin", "config group"):
        assert rows[row] == "MISS", output
    assert "remedy: pip install" in output
    assert code == 1


def test_nothing_is_installed(tmp_path):
    """Not even verl: every row still speaks."""
    code, rows, output = run_doctor(venv(tmp_path / "venv"))
    assert set(rows) == set(doctor.ROWS), output
    assert [label for label, state in rows.items() if state == "ok"] == ["python"]
    assert "MISS  verl                  not installed" in output
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verl.trainer.sft_trainer", "+swarr.window=64"], "no option of the group `swarr` is selected"),
        (["verl.trainer.main_ppo", "+swarr=rl", "swarr.window=0"], "swarr.window=0 is not a window"),
    ],
)
def test_verl_exits_1_with_one_line(arguments, message):
    """The real entry points: neither Hydra nor verl swallows the error, and no process was started."""
    run = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert message in run.stderr.splitlines()[-1]
