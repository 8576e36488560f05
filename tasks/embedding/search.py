"""`python -m tasks.embedding search` and `remove`: the most similar photos of a gallery."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from datasets.files import atomic_write, only_process
from datasets.images.read import write_image
from datasets.progress import Progress
from datasets.types import Face
from datasets.words import plural
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.face_task import FaceTask
from tasks.common.prediction.find import find_images
from tasks.common.prediction.open import load_model
from tasks.common.runs.folder import out_folder
from tasks.embedding.draw import draw_matches
from tasks.embedding.gallery import Gallery
from tasks.embedding.metric import RATES
from tasks.embedding.photos import embed_photos, open_gallery, report_left_out, unfinished_folders
from tasks.embedding.verification import OperatingPoint

SHEET, MATCHES = "matches.png", "matches.jsonl"
NUM_DRAWN = 12  # queries


def remove(_task_class: type[FaceTask[Face]], arguments: Arguments) -> int:
    """Remove photos from a gallery; their files need not exist."""
    path = Path(arguments.options["gallery"])
    with only_process(path, "--gallery") if path.exists() else nullcontext():
        gallery = Gallery.read(path)
        for folder in unfinished_folders(path):
            if folder.exists():
                raise ValueError(
                    f"{folder}: an interrupted index has embeddings there, which would come into the gallery again; "
                    "run index to its end, or remove the folder"
                )
        num_removed = gallery.remove([os.path.abspath(target) for target in arguments.options["inputs"]])
    print(f"removed {plural(num_removed, 'photo')}; {gallery.path} has {len(gallery)}", file=sys.stderr)
    return 0


def search(task_class: type[FaceTask[Face]], arguments: Arguments) -> int:
    """Find the most similar photos, write and draw them."""
    options = arguments.options
    if options["num_matches"] < 1:
        raise ValueError(f"--num_matches: expected 1 or more, got {options['num_matches']}")
    queries = list(dict.fromkeys(os.path.abspath(photo.name) for photo in find_images(options["inputs"])))
    model = load_model(task_class.name, arguments.config, options["run"], arguments.given)
    task: Any = model.task
    gallery = open_gallery(Path(options["gallery"]), task, model)
    unreadable = UnreadableImages(len(queries), task.config.loop.max_unreadable_fraction)
    with Progress("embedding", len(queries)) as progress:
        entries, embeddings, faces = embed_photos(task, model, queries, progress, unreadable)
    report_left_out(task, unreadable)
    found = gallery.search(embeddings, options["num_matches"])
    folder = out_folder(task, "search", out=options["out"], run=options["run"])
    with atomic_write(folder / MATCHES) as temporary, temporary.open("w", encoding="utf-8") as file:
        for (photo, box), face, matches in zip(entries, faces, found, strict=True):
            record = {"image": photo} | (face.to_record() if face is not None else {})
            file.write(json.dumps(record | {"matches": [match._asdict() for match in matches]}) + "\n")
            at = "" if box is None else f", face at {', '.join(f'{value:.0f}' for value in box)}"
            others = [f"{match.similarity:.3f} {match.path}" for match in matches if match.path != photo]
            nothing = "only the photo itself" if matches else "the gallery is empty"
            print(f"{photo}{at}: {others[0] if others else nothing}")
    drawn = list(zip(entries, found, strict=True))[:NUM_DRAWN]
    write_image(folder / SHEET, draw_matches(drawn, _strictest_point(options["run"]), task.decoding))
    print(f"wrote {SHEET} and {MATCHES} to {folder}", file=sys.stderr)
    return 0


def _strictest_point(run: str | None) -> OperatingPoint | None:
    """The operating point with the lowest false accept rate that `evaluate` has written to the run, if any."""
    path = Path(run or "") / "evaluate-val" / RATES
    if run is None or not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8") as file:
            points = [
                OperatingPoint(
                    float(row["far"]), int(row["impostor_pairs"]), float(row["tar"]), float(row["threshold"])
                )
                for row in csv.DictReader(file)
            ]
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a table as evaluate writes it; remove it and run evaluate again") from error
    return min((point for point in points if not math.isnan(point.threshold)), default=None)
