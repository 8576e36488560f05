"""The verbs of geolocation: every task's, and `index`."""

from tasks.common.cli import commands

COMMANDS = commands.COMMANDS | {
    "index": commands.Command(
        "Keep the features of all training photos, so that `evaluate` and `predict` can find the most similar ones "
        "(Im2GPS). Leaves a run folder. Without --config and --data.root it takes the drawn sample.",
        "python -m tasks.{task} index --backbone.pretrained runs/geolocation/... --run_dir runs/gallery",
        "tasks.geolocation.index",
        commands.add_run_dir,
        knows_sample=True,
    ),
}
