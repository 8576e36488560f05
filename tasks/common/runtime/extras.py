"""The optional packages of pyproject.toml."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from tasks.common.runtime.repository import ROOT


def check_packages(name: str, flag: str) -> str:
    """The version of the first package of an extra, if all of them are installed as it needs them.

    Args:
        name: of the extra.
        flag: that asks for it, for the error.

    Raises:
        ValueError: if one is missing, too old or too new.
    """
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    requirements = [Requirement(text) for text in extras[name]]
    for requirement in requirements:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "no such package"
        if found == "no such package" or not requirement.specifier.contains(found, prereleases=True):
            raise ValueError(
                f"{flag} {name}: needs {requirement}, found {found}; install it with: pip install '.[{name}]'"
            )
    return version(requirements[0].name)
