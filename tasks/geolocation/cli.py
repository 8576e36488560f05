"""The verbs of geolocation: those of every task, and `index`."""

from tasks.common.cli import commands

COMMANDS = commands.COMMANDS | {
    "index": commands.Command(
        "Store the features of the training photos, for retrieval (Im2GPS). In the new run folder, `evaluate` and "
        "`predict` find the most similar ones. Without --config and --data.root it uses the generated sample.",
        (
            "python -m tasks.{task} index --pretrained keras --run_dir runs/gallery",
            "python -m tasks.{task} evaluate --run runs/gallery",
        ),
        "tasks.geolocation.index",
        commands.add_run_dir,
        uses_sample=True,
    ),
}
