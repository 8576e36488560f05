"""Runs on the Hugging Face Hub: `push` uploads one, and `--pretrained hf:USER/NAME` takes it from there.

A repository has three files: the network's weights with the label map (`model.safetensors`), the settings
(`config.yaml`) and the model card (`README.md`). Only the first two are read, and nothing is unpickled. Downloads go
through the client's own cache, with its environment variables (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from tasks.common.deploy.session import MODEL
from tasks.common.runs.card import CARD, HUB, how_to_use, replace_section, without_places
from tasks.common.runs.checkpoint import BEST, EXTRA_STATE, check_content, load_checkpoint
from tasks.common.runs.folder import write_settings
from tasks.common.settings import CONFIG, config_file, flatten, load_yaml

WEIGHTS = "model.safetensors"


def push_run(run: Path, repo: str, *, is_private: bool = False) -> str:
    """Upload the best model of a run as a commit of a repository, which is made if there is none.

    Args:
        run: its folder.
        repo: USER/NAME.
        is_private: whether a new repository is private.

    Returns:
        The URL of the commit.

    Raises:
        ValueError: if this is no run, or the Hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token  # slow to import

    _check_name(repo, f"--repo {repo}")
    with TemporaryDirectory() as folder:
        write_repository(run, Path(folder), f"{HUB}{repo}")
        if get_token() is None:
            raise ValueError(f"--repo {repo}: not logged in; run `hf auth login`, or set HF_TOKEN")
        with _explained(f"--repo {repo}", "nothing was uploaded"):
            api = HfApi()
            api.create_repo(repo, private=is_private, exist_ok=True)
            commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Upload {run.name}")
    return str(commit.commit_url)


def write_repository(run: Path, folder: Path, model: str) -> None:
    """Write the files of a run's repository.

    Args:
        run: the run.
        folder: an empty one.
        model: what the card says that `load` takes.

    Raises:
        ValueError: if this is no run with a checkpoint.
    """
    from safetensors.torch import save_file

    if (run / MODEL).is_file():
        raise ValueError(f"--run {run}: an export; expected the run that it was exported from")
    settings = load_yaml(config_file(run))
    content = load_checkpoint(run / BEST)
    tensors = {name: tensor.contiguous() for name, tensor in flatten(content["model"]).items()}
    properties = {"format": "pt", "task": content["task"], "metadata": json.dumps(content["metadata"])}
    save_file(tensors, folder / WEIGHTS, properties)
    write_settings(without_places(settings), folder)
    if (run / CARD).is_file():
        card = (run / CARD).read_text(encoding="utf-8")
        (folder / CARD).write_text(replace_section(card, "use", how_to_use(content["task"], model)), encoding="utf-8")


def pull_run(name: str) -> tuple[Path, dict[str, Any]]:
    """The settings file and the content of the checkpoint of a run on the Hub, downloaded once.

    Args:
        name: hf:USER/NAME, or hf:USER/NAME@REVISION with a branch, a tag or a commit.

    Raises:
        ValueError: if there is no such repository, it has no run of this suite, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download  # slow to import

    repo, _, revision = name.removeprefix(HUB).partition("@")
    _check_name(repo, name)
    with _explained(name, "the cache has no copy"):
        folder = Path(snapshot_download(repo, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]))
    missing = [file for file in (WEIGHTS, CONFIG) if not (folder / file).is_file()]
    if missing:
        raise ValueError(f"{name}: no run of this suite: it has no {' and no '.join(missing)}, which `push` writes")
    return folder / CONFIG, _read(folder / WEIGHTS, name)


def _read(path: Path, name: str) -> dict[str, Any]:
    """The content of a checkpoint from a file of weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            properties = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        model = _with_extra_state(tensors)
        content = {"task": properties["task"], "metadata": json.loads(properties["metadata"]), "model": model}
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: its {WEIGHTS} is damaged, or was not written by `push` ({reason})") from error
    return check_content(content, name)


def _with_extra_state(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A state dict from the tensors of a file, in which a gallery, a module's extra state, is several.

    Raises:
        ValueError: if one name is both a tensor and an extra state.
    """
    state: dict[str, Any] = {}
    for name, tensor in tensors.items():
        module, mark, key = name.rpartition(f"{EXTRA_STATE}.")
        if mark:
            owner = f"{module}{EXTRA_STATE}"
            if owner in tensors:
                raise ValueError(f"{owner} is there twice")
            state.setdefault(owner, {})[key] = tensor
        else:
            state[name] = tensor
    return state


def _check_name(repo: str, what: str) -> None:
    if repo.count("/") != 1:
        raise ValueError(f"{what}: expected USER/NAME, got {repo!r}")


@contextmanager
def _explained(what: str, without_network: str) -> Iterator[None]:
    """Turn what the client raises into one line.

    Args:
        what: was asked for.
        without_network: what follows if the Hub cannot be reached.

    Raises:
        ValueError: in place of each such exception.
    """
    from huggingface_hub import errors

    # The client has been built on requests, httpx and httpx2, whose exceptions it lets through.
    of_connection: Any = (*errors.HfHubHTTPError.__bases__, OSError)

    unreachable = f"{what}: the Hub cannot be reached, and {without_network}; try again online"

    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # in versions before 1.0 an HfHubHTTPError without a response
        raise ValueError(unreachable) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        noun = "revision" if isinstance(error, errors.RevisionNotFoundError) else "repository"
        reason = f"there is no such {noun}, or it is private and you are not logged in (`hf auth login`)"
        raise ValueError(f"{what}: {reason}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "; the token may not write there: `hf auth login` with another" if status in (401, 403) else ""
        raise ValueError(f"{what}: the Hub answered {status}{advice}") from error
    except errors.HFValidationError as error:
        raise ValueError(f"{what}: {str(error).splitlines()[0]}") from error
    except of_connection as error:
        if isinstance(error, OSError) and error.errno is not None:  # of this machine: a full disk, and so on
            raise
        raise ValueError(unreachable) from error
