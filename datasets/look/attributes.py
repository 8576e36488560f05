"""Look at attributes: whether they differ between images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from datasets.celeba import AttributeImages
from datasets.look.finding import Finding, Severity, ratio, selected
from datasets.types import Split
from datasets.words import first_of

MIN_IMAGES = 20
FEW, MAX_RATIO = 0.01, 3  # images without any attribute: as a fraction, and relative to what is expected


def look_at_attributes(sources: Mapping[Split, AttributeImages]) -> Iterator[Finding]:
    """What is to be said about the attributes of a data set."""
    for split, source in sources.items():
        names = source.attribute_names
        prevalence = source.values.mean(0)
        is_constant = (prevalence == 0) | (prevalence == 1)
        constant = [
            f"{name} ({'all' if fraction else 'none'})"
            for name, fraction in zip(names, prevalence.tolist(), strict=True)
            if fraction in (0, 1)
        ]
        useless = "learned" if split == "train" else "scored"
        if is_constant.all():
            severity: Severity = "warning" if split == "test" else "error"
            yield Finding(
                severity,
                f"{split}: each attribute is the same in all images, so nothing can be {useless}: {first_of(constant)}",
            )
        elif constant:
            count = ratio(len(constant), len(names), "attributes")
            yield Finding(
                "warning", f"{split}: {count} are the same in all images and cannot be {useless}: {first_of(constant)}"
            )
        has_none = np.asarray(~source.values.any(1))
        # As many as there would be if the attributes were independent are natural.
        is_enough = len(source) >= MIN_IMAGES and not has_none.all()
        if is_enough and has_none.mean() > max(FEW, MAX_RATIO * np.prod(1 - prevalence)):
            first = source.id(int(np.argmax(has_none)))
            yield Finding(
                "note",
                f"{split}: {selected(has_none, 'images')} have none of the attributes, as if they were not labelled "
                f"(the first is {first})",
            )
