"""The verbs of geolocation: those of every task, and `index`."""

from tasks.common.cli import commands

COMMANDS = commands.COMMANDS | {
    "index": commands.Command(
        "Store the features of all training photos, so that `evaluate` and `predict` can find the most similar ones "
        "(Im2GPS). Writes a run folder. Without --config and --data.root it uses the generated sample.",
        "python -m tasks.{task} index --backbone.pretrained runs/geolocation/... --run_dir runs/gallery",
        "tasks.geolocation.index",
        commands.add_run_dir,
        knows_sample=True,
    ),
}
