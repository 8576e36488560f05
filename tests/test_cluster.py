"""The starting points for clusters: they parse, and start what they say; what Slurm brings is replaced by stand-ins."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import parse_args

from tasks.common.cli.commands import COMMANDS
from tasks.common.cli.parser import parse_arguments
from tasks.common.runtime.repository import ROOT
from tasks.registry import config_class

CLUSTER = ROOT / "configs" / "cluster"
TRAIN = "tasks.detection train --config configs/detection/ssd300_coco.yaml --data.root /shared/coco --run_dir /shared/r"


def check_training(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What torchrun makes of the words behind its name; the command that it starts is one of the suite."""
    monkeypatch.chdir(ROOT)
    launch = parse_args(words)
    assert launch.module
    assert launch.training_script == "tasks.detection"
    arguments = [word for word in launch.training_script_args if word != "--"]
    parsed = parse_arguments("detection", config_class("detection"), Path("unused"), arguments, COMMANDS)
    assert parsed.verb == "train"
    assert parsed.config.data.root == "/shared/coco"
    return launch


def run_slurm(folder: Path, words: list[str]) -> list[str]:
    """The words that srun gets from the script, for a job with four GPUs a machine; the names overfill a pipe."""
    for name, line in {"srun": 'printf "%s\\n" "$@"', "scontrol": "seq -f node%g 7 20000"}.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    job = {
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_JOB_ID": "12",
    }
    env = os.environ | job | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    script = ["bash", str(CLUSTER / "slurm.sbatch"), *words]
    return subprocess.run(script, env=env, capture_output=True, check=True, text=True).stdout.splitlines()


def test_slurm_starts_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, *words = run_slurm(tmp_path, shlex.split(TRAIN))
    assert name == "torchrun"
    launch = check_training(words, monkeypatch)
    assert (launch.nnodes, launch.nproc_per_node, launch.rdzv_endpoint) == ("2", "4", "node7:29400")
    assert (launch.rdzv_backend, launch.rdzv_id, launch.max_restarts) == ("c10d", "12", 3)


def test_kubernetes_starts_a_training_on_as_many_machines_as_there_are_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (script,) = container["args"]
    name, *words = shlex.split(
        script.replace("\\\n", " ").replace("$JOB_COMPLETION_INDEX", "1").replace("exec ", "", 1)
    )
    assert name == "torchrun"
    launch = check_training(words, monkeypatch)
    assert launch.nnodes == str(job["spec"]["completions"]) == str(job["spec"]["parallelism"])
    assert launch.nproc_per_node == str(container["resources"]["limits"]["nvidia.com/gpu"])
    first_pod = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert launch.rdzv_endpoint.partition(":")[0] == first_pod
    assert pod["subdomain"] == service["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
