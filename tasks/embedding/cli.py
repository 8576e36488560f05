"""The verbs of embedding: every task's, `index`, `search` and `remove`, and `peer`."""

from jsonargparse import ArgumentParser

from tasks.common.cli import commands


def _index_flags(flags: ArgumentParser) -> None:
    flags.add_argument("--run", type=str | None, help="run folder made by train; without it, published weights")
    flags.add_argument("--out", type=str, default="gallery.faiss", help="the gallery, made or added to")
    flags.add_argument("inputs", nargs="+", type=str, help="image, folder or glob")


def _search_flags(flags: ArgumentParser) -> None:
    commands.add_run(flags, "search")
    _add_gallery(flags)
    flags.add_argument("--num_matches", type=int, default=5, help="photos to find for each")
    flags.add_argument("inputs", nargs="+", type=str, help="image, folder or glob")


def _remove_flags(flags: ArgumentParser) -> None:
    _add_gallery(flags)
    flags.add_argument("inputs", nargs="+", type=str, help="photo, or folder with all that is below it")


def _add_gallery(flags: ArgumentParser) -> None:
    flags.add_argument("--gallery", type=str, default="gallery.faiss", help="what `index` made")


def _peer_flags(flags: ArgumentParser) -> None:
    flags.add_argument("onnx", type=str, help="network: RGB with ImageNet's mean and deviation, one face -> a vector")
    commands.add_out(flags, "runs/embedding/<backbone>-peer")
    commands.add_json(flags)


COMMANDS = commands.COMMANDS | {
    "index": commands.Command(
        "Embed photos into a gallery that can be searched, or add to one what is new or changed since. The files are "
        "GALLERY.faiss and, beside it, GALLERY.csv and GALLERY.json",
        "python -m tasks.{task} index --run runs/first photos/ --out gallery.faiss",
        "tasks.embedding.search",
        _index_flags,
        usage=" [--run RUN] INPUT... [--out GALLERY]",
    ),
    "search": commands.Command(
        "Find the most similar photos of a gallery; draws them beside each photo, and writes matches.jsonl",
        "python -m tasks.{task} search --run runs/first --gallery gallery.faiss who.jpg",
        "tasks.embedding.search",
        _search_flags,
        usage=" [--run RUN] INPUT... [--gallery GALLERY]",
    ),
    "remove": commands.Command(
        "Remove photos from a gallery, whether their files are still there or not",
        "python -m tasks.{task} remove --gallery gallery.faiss photos/someone/",
        "tasks.embedding.search",
        _remove_flags,
        usage=" INPUT... [--gallery GALLERY]",
    ),
    "peer": commands.Command(
        "Score another embedding network, an ONNX file, on the very same photos",
        "python -m tasks.{task} peer face.onnx --data.input_size 112 --data.root photos/ --data.val_fraction 1",
        "tasks.embedding.peer",
        _peer_flags,
        usage=" ONNX",
    ),
}
