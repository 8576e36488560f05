"""The verbs of embedding: those of every task, `index`, `search` and `remove`."""

from jsonargparse import ArgumentParser

from tasks.common.cli import commands


def _index_flags(flags: ArgumentParser) -> None:
    flags.add_argument("--run", type=str | None, help="run folder made by train; without it, published weights")
    flags.add_argument("--out", type=str, default="gallery.faiss", help="gallery to create or extend")
    flags.add_argument("inputs", nargs="+", type=str, help="image, folder or glob")


def _search_flags(flags: ArgumentParser) -> None:
    commands.add_run(flags, "search")
    _add_gallery(flags)
    flags.add_argument("--num_matches", type=int, default=5, help="matches for each photo")
    flags.add_argument("inputs", nargs="+", type=str, help="image, folder or glob")


def _remove_flags(flags: ArgumentParser) -> None:
    _add_gallery(flags)
    flags.add_argument("inputs", nargs="+", type=str, help="photo, or folder with everything below it")


def _add_gallery(flags: ArgumentParser) -> None:
    flags.add_argument("--gallery", type=str, default="gallery.faiss", help="gallery written by index")


_PUBLISHED = "--pretrained keras"
_INDEX = f"python -m tasks.{{task}} index {_PUBLISHED} tasks/embedding"

COMMANDS = commands.COMMANDS | {
    "index": commands.Command(
        "Embed photos into a searchable gallery, or add new and changed photos to it. The gallery consists of "
        "GALLERY.faiss, GALLERY.csv and GALLERY.json.",
        (_INDEX, f"python -m tasks.{{task}} search {_PUBLISHED} tasks/embedding/matches.jpg"),
        "tasks.embedding.index",
        _index_flags,
        usage=" [--run RUN] INPUT... [--out GALLERY]",
    ),
    "search": commands.Command(
        "Find the most similar photos in a gallery. Writes matches.jsonl, and draws the best beside each photo.",
        (_INDEX, f"python -m tasks.{{task}} search {_PUBLISHED} tasks/embedding/matches.jpg"),
        "tasks.embedding.search",
        _search_flags,
        usage=" [--run RUN] INPUT... [--gallery GALLERY]",
    ),
    "remove": commands.Command(
        "Remove photos from a gallery. Their files need not exist.",
        (_INDEX, "python -m tasks.{task} remove tasks/embedding/matches.jpg"),
        "tasks.embedding.search",
        _remove_flags,
        usage=" INPUT... [--gallery GALLERY]",
    ),
}
