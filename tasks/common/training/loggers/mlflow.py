"""MLflow: an experiment for each task, on the server or in the file that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tasks.common.settings import flatten
from tasks.common.training.loggers.base import Logger, save_run_id, saved_run_id

_MAX_PARAMS = 100  # in one call, by MLflow's REST interface


class MlflowLogger(Logger):
    """Sends to MLflow by a client of its own, beside any run that is active in the program.

    Experiment and place are those of MLflow's own environment variables (MLFLOW_EXPERIMENT_NAME, MLFLOW_TRACKING_URI);
    without them an experiment of the task's name, and MLflow's default place.
    """

    def open(self) -> None:
        """See `Logger`."""
        from mlflow import MlflowClient  # only now: an optional package
        from mlflow.entities import Param

        training, self._client = self.training, MlflowClient()
        run_id = saved_run_id(training.run, "mlflow")
        if run_id is not None:
            self._run_id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", training.task)
        found = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if found is None else found.experiment_id
        self._run_id = self._client.create_run(experiment_id, run_name=str(training.run)).info.run_id
        save_run_id(training.run, "mlflow", self._run_id)
        params = [Param(key, str(value)) for key, value in flatten(training.settings).items()]
        for first in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._run_id, params=params[first : first + _MAX_PARAMS])

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Logger`."""
        from mlflow.entities import Metric

        time_ms = round(1000 * time.time())
        metrics = [Metric(name, value, time_ms, step) for name, value in scalars.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def log_picture(self, step: int, path: Path) -> None:
        """See `Logger`."""
        self._client.log_artifact(self._run_id, str(path))

    def close(self, *, is_complete: bool) -> None:
        """See `Logger`."""
        self._client.set_terminated(self._run_id, "FINISHED" if is_complete else "FAILED")
