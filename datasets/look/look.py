"""Look at data before a training: in seconds, and before any weights are opened."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from datasets.celeba import AttributeImages
from datasets.classification.labelled import LabelledImages
from datasets.detection.annotated import AnnotatedImages
from datasets.faces import FaceImages
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.look.attributes import look_at_attributes
from datasets.look.detection import look_at_boxes
from datasets.look.faces import look_at_identities
from datasets.look.files import look_at_files
from datasets.look.finding import SEVERITIES, Finding
from datasets.look.labelled import look_at_classes
from datasets.look.masks import look_at_masks
from datasets.look.places import look_at_places
from datasets.segmentation.masked import MaskedImages
from datasets.sources import Source
from datasets.stores import StoredExamples
from datasets.types import Split


def look(
    sources: Mapping[Split, Source[Any]], *, input_size: int | None = None, max_unreadable_fraction: float = 0.01
) -> list[Finding]:
    """What would make a training on these data fail, or worthless, and what is unusual about them; errors first.

    Args:
        sources: by split; those that are not stored examples, such as made-up ones, are not looked at.
        input_size: side of the network's input in pixels, if it is known.
        max_unreadable_fraction: of the images of a split, above which a training would stop.
    """
    stored = {split: source for split, source in sources.items() if isinstance(source, StoredExamples)}
    if not stored:
        return []
    findings = [
        *_look_at_truth(stored, input_size, max_unreadable_fraction),
        *look_at_files(stored, max_unreadable_fraction=max_unreadable_fraction),
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def look_before_training(
    sources: Mapping[Split, Source[Any]], *, input_size: int, max_unreadable_fraction: float
) -> None:
    """Print what a look finds, a line each on stderr.

    Args:
        sources: train, and val where there is one.
        input_size: side of the network's input in pixels.
        max_unreadable_fraction: of the images of a split, above which a training would stop.

    Raises:
        ValueError: if nothing could be learned or scored, or too many images cannot be read.
    """
    findings = look(sources, input_size=input_size, max_unreadable_fraction=max_unreadable_fraction)
    for severity, text in findings:
        if severity == "warning":
            warnings.warn(text, stacklevel=2)
        elif severity == "note":
            print(f"note: {text}", file=sys.stderr)
    errors = [finding.text for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: `python -m datasets check` lists them)" if len(errors) > 1 else ""
        raise ValueError(f"{errors[0]}{more}")


def _look_at_truth(
    sources: Mapping[Split, StoredExamples[Any]], input_size: int | None, max_unreadable_fraction: float
) -> Iterable[Finding]:
    match next(iter(sources.values())):
        case AnnotatedImages():
            return look_at_boxes(sources, input_size=input_size)  # type: ignore[arg-type]
        case LabelledImages():
            return look_at_classes(sources)  # type: ignore[arg-type]
        case MaskedImages():
            return look_at_masks(sources, max_unreadable_fraction=max_unreadable_fraction)  # type: ignore[arg-type]
        case FaceImages():
            return look_at_identities(sources)  # type: ignore[arg-type]
        case AttributeImages():
            return look_at_attributes(sources)  # type: ignore[arg-type]
        case GeotaggedPhotos():
            return look_at_places(sources)  # type: ignore[arg-type]
    return []
