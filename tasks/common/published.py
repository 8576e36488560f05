"""The table of published task models: `python -m tasks.<task> models`. Imports nothing heavy.

Published weights of backbones, for every task to start from, are in `backbone/published.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model of a task that others trained and published; a task's `read_published` opens its file as it is.

    Attributes:
        name: for `--pretrained`.
        task: that it solves.
        architecture: in words.
        url: of the file, or of the archive that has it.
        file: name of the file, in the archive if the URL is that of an archive.
        sha256: of what is downloaded; None if none is known, then the first download is the reference.
        licence: as published.
        trained_on: the data.
        score: as published, with its metric and data.
        preprocessing: of the input, in words.
    """

    name: str
    task: str
    architecture: str
    url: str
    file: str
    sha256: str | None
    licence: str
    trained_on: str
    score: str
    preprocessing: str


PUBLISHED_MODELS: tuple[PublishedModel, ...] = ()

# Task -> why there is no published model of it.
MISSING = {
    "geolocation": (
        "No model is published that may be used: PlaNet's weights (Weyand et al. 2016, arXiv:1602.05314) were never "
        "released, and those of later networks are not MobileNets and come with terms for research alone. `index` "
        "makes one of your own photos, without training."
    ),
}
