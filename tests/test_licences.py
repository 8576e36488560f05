"""LICENCES.md and the licences that installed packages state; `python -m tests.test_licences` prints its table."""

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "LICENCES.md"
PERMISSIVE = {
    *("MIT", "MIT-CMU", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "LLVM-exception", "ISC", "Zlib"),
    *("PSF-2.0", "CC0-1.0", "BSL-1.0", "HPND", "Unlicense"),
}
FILES = "MPL-2.0"  # its files stay under it, what uses them does not
NVIDIA = "LicenseRef-NVIDIA-Proprietary"  # free to use and to pass on with programs; comes with torch's CUDA builds
# What packages say in other words, in their field or their classifiers.
WORDS = {
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD",
    "freebsd": "BSD-2-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": FILES,
    "nvidia proprietary software": NVIDIA,
    "other/proprietary license": NVIDIA,
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
# As read in their files: packages whose metadata have no licence, its whole text instead of its name, or another than
# their files; and those of extras that are not installed.
BY_HAND = {
    "albucore": "MIT",
    "albumentations": "MIT",
    "comm": "BSD-3-Clause",
    "contourpy": "BSD-3-Clause",
    "coremltools": "BSD-3-Clause",
    "cuda-toolkit": NVIDIA,
    "cycler": "BSD-3-Clause",
    "executorch": "BSD-3-Clause",
    "faster-coco-eval": "Apache-2.0",
    "jupyter-client": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "litert-torch": "Apache-2.0",
    "markdown": "BSD-3-Clause",
    "matplotlib": "PSF-2.0",  # in words of its own; some of its fonts are under OFL-1.1
    "mlflow": "Apache-2.0",
    "namex": "Apache-2.0",
    "nbclient": "BSD-3-Clause",
    "nbformat": "BSD-3-Clause",
    "nvidia-nvtx": "Apache-2.0",
    "onnxscript": "MIT",
    "openvino": "Apache-2.0",
    "pi-heif": "BSD-3-Clause",
    "ptyprocess": "ISC",
    "s2geometry": "Apache-2.0",
    "scipy": "BSD-3-Clause",  # its wheels contain GCC's runtime libraries: GPL-3.0 with GCC's exception, LGPL-2.1
    "torch-pruning": "MIT",
    "traitlets": "BSD-3-Clause",
    "wandb": "MIT",
}


def licence_of(name: str) -> str:
    """SPDX's expression for a package's licence; an empty text if it states none, or a part of it is not known.

    The first that is present of its expression, its field and all its classifiers together.
    """
    if name in BY_HAND:
        return BY_HAND[name]
    metadata = distribution(name).metadata
    classifiers = [text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    field = metadata.get("License-Expression") or metadata.get("License")
    texts = [field] if field else [text.rpartition("::")[2].strip() for text in classifiers]
    found = " AND ".join(WORDS.get(text.lower(), text) for text in texts)
    return found if ids_of(found) <= {*PERMISSIVE, FILES, NVIDIA} else ""


def ids_of(expression: str) -> set[str]:
    """The licences in an expression."""
    return set(re.split(r" AND | OR | WITH ", expression.replace("(", "").replace(")", "")))


def requirements() -> dict[str, list[str]]:
    """Package -> what needs it: `core`, or an extra."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for group, texts in groups.items():
        seen: set[tuple[str, str]] = set()
        for text in texts:
            _add(Requirement(text), "", seen)
        for name in sorted({name for name, _ in seen}):
            found.setdefault(name, []).append(group)
    return found


def _add(requirement: Requirement, extra: str, seen: set[tuple[str, str]]) -> None:
    """Add a package and all that it needs."""
    name = canonicalize_name(requirement.name)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return
    for wanted in ("", *requirement.extras):
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found = installed(name)
        for text in (found and found.requires) or []:
            _add(Requirement(text), wanted, seen)


def installed(name: str) -> Distribution | None:
    """A package; None if it is not installed, as those of most extras."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def table() -> dict[str, str]:
    """Package -> licence, as LICENCES.md has them."""
    rows = re.findall(r"^\| (\S+) \| ([^|]+?) \| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: licence for name, licence in rows if name not in ("package", "---")}


REQUIREMENTS = requirements()


def test_every_dependency_is_permissive() -> None:
    """Those of dependencies too, and those that a new version brings along."""
    for name in REQUIREMENTS:
        if installed(name) is None:
            continue
        licence = licence_of(name)
        assert licence, f"{name}: its metadata have no licence that is known; read its files: BY_HAND"
        assert ids_of(licence) <= {*PERMISSIVE, FILES, NVIDIA}, f"{name}: {licence}"
        if NVIDIA in licence:
            assert name.startswith(("nvidia-", "cuda-")), f"{name}: {licence}"


def test_the_page_has_every_dependency_of_ours_and_says_what_packages_say() -> None:
    page = table()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    missing = {canonicalize_name(Requirement(text).name) for group in groups for text in group} - page.keys()
    assert not missing, f"LICENCES.md lacks {missing}; print its table: python -m tests.test_licences"
    for name, licence in page.items():
        if installed(name) is not None:
            families = ({one.split("-")[0] for one in ids_of(text)} for text in (licence, licence_of(name)))
            assert len(set(map(frozenset, families))) == 1, f"{name}: {licence_of(name)}, in LICENCES.md {licence}"


AGPL = "Classifier: License :: OSI Approved :: GNU Affero General Public License v3"
BSD = "Classifier: License :: OSI Approved :: BSD License"
MIT = "Classifier: License :: OSI Approved :: MIT License"


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        (["License-Expression: GPL-3.0-only", MIT], ""),
        (["License-Expression: MIT AND GPL-2.0-only"], ""),
        (["License-Expression: (MIT OR Apache-2.0) AND ISC", "License: GPL"], "(MIT OR Apache-2.0) AND ISC"),
        (["License: AGPL-3.0", MIT], ""),
        (["License: LGPL-2.1"], ""),
        (["License: Commercial", BSD], ""),
        (["License: Apache 2.0", BSD], "Apache-2.0"),
        ([BSD, AGPL], ""),
        ([AGPL, BSD], ""),
        ([BSD, MIT], "BSD AND MIT"),
        (["Classifier: License :: OSI Approved", MIT], ""),
        (["Classifier: Topic :: Software Development"], ""),
    ],
)
def test_what_is_not_permissive_is_found(
    fields: list[str], licence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_up-1.dist-info").mkdir()
    metadata = ["Metadata-Version: 2.4", "Name: made-up", "Version: 1", *fields]
    (tmp_path / "made_up-1.dist-info" / "METADATA").write_text("\n".join(metadata), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert licence_of("made-up") == licence


def licence_table() -> str:
    """The table of LICENCES.md."""
    rows = [f"| {name} | {licence_of(name)} | {', '.join(groups)} |" for name, groups in sorted(REQUIREMENTS.items())]
    return "\n".join(["| package | licence | needed by |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    print(licence_table())
