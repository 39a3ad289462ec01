"""Publish a finished folder on the Hugging Face Hub: one commit with all of it, or none.

    vmhan publish OUTPUT_DIR USER/NAME [--dry_run] [--private] [--predictions]
    vmhan publish DATASET_DIR USER/NAME --repo_type dataset

What goes up is chosen by name: weights as safetensors, config, code, processor, metrics.json, figures and the card.
Pickles, optimizer states and checkpoints never do. The token is HF_TOKEN's or that of `hf auth login`.
"""

import argparse
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from model_cards.checking import check_card
from model_cards.files import remove_leftovers, write_text
from model_cards.locks import lock_beside, lock_inside, locked
from model_cards.run_metadata import read_metadata
from model_cards.secrets import without_secrets


__all__ = ["check_access", "check_repo_id", "main", "publish_dataset", "publish_model", "publishable_files"]

logger = logging.getLogger(__name__)

FILES = {
    "model": (
        "*.safetensors", "*.safetensors.index.json", "*.py", "config.json", "*processor_config.json",
        "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
        "chat_template.jinja", "requirements.txt", "metrics.json", "README.md", "figures/*.png", "figures/*.svg",
    ),
    "dataset": (
        "README.md", "**/*.parquet", "figures/*.png", "figures/*.jpg", "figures/*.svg", "statistics.json",
        "provenance.json", "skipped.jsonl", "empty_nodes.jsonl",
    ),
}  # fmt: skip
NEEDED = {
    "model": ("config.json", "*.safetensors", "processor_config.json", "*.py", "metrics.json", "README.md"),
    "dataset": ("README.md", "**/*.parquet"),
}
# Files of an earlier push that would be read together with the new ones if they stayed in the same folder.
STALE = {"model": (".safetensors", ".safetensors.index.json"), "dataset": (".parquet",)}


def publish_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    predictions: bool = False,
    token: str | None = None,
    run: Mapping[str, Any] | None = None,
) -> str:
    """Publish a finished --output_dir of run_mmre.py; returns the URL of the commit.

    The repository is made if it is not there, and the folder's README.md then loads from it. `private` refuses an
    existing public one; `predictions` adds predictions.jsonl, which quotes the entities' names from the data; `run`
    may stand for run.json, which a run that publishes itself writes afterwards.

    Raises:
        ValueError: a file is missing, a number of the card differs from the files, or `private` meets a public one.
        PermissionError: no token, a wrong one, or one that may not write there.
        ConnectionError: the connection failed; the repository has all of the files or is as it was.
        OSError: any other refusal of the Hub.
    """
    files = publishable_files(folder, predictions=predictions)
    if problems := check_card(folder, run):
        raise ValueError(
            f"{folder}/README.md: expected the numbers of metrics.json, config.json and run.json, received a card "
            f"that differs: {'; '.join(problems[:3])}. Write it anew: `python -m model_cards.cards {folder}`."
        )
    if "shuffled_images" in read_metadata(folder, run).run["data"]:
        logger.warning("%s is a control, trained with pictures of other posts, and its card says so", repo_id)
    return _publish(Path(folder), repo_id, files, repo_type="model", private=private, token=token)


def publish_dataset(folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Publish a folder of Parquet files with its card; arguments, value and errors as for `publish_model`."""
    files = publishable_files(folder, repo_type="dataset")
    return _publish(Path(folder), repo_id, files, repo_type="dataset", private=private, token=token)


def publishable_files(folder: str | Path, *, repo_type: str = "model", predictions: bool = False) -> list[str]:
    """Return the paths of the files that go up, relative to `folder`; ValueError if one that is needed is missing."""
    folder = Path(folder)
    for pattern in [*NEEDED[repo_type], *(["predictions.jsonl"] if predictions else [])]:
        if not any(folder.glob(pattern)):
            origin = "a finished --output_dir of run_mmre.py" if repo_type == "model" else "a folder made by prepare"
            raise ValueError(f"{folder}: expected {pattern}, received a folder without it. Pass {origin}.")
    patterns = FILES[repo_type] + (("predictions.jsonl",) if predictions else ())
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder).as_posix() for path in found)


def check_repo_id(argument: str, repo_id: str) -> None:
    """ValueError, before hours of training, for what the Hub takes for no name of a repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{argument}: expected USER/NAME, received {repo_id!r}. {error}") from None


def check_access(token: str | None = None) -> None:
    """Ask the Hub, before hours of training, whether the token is one that can write. PermissionError if there
    is none, or a wrong one, or one that may only read; OSError if the Hub cannot be reached.
    """
    with _explained():
        account = HfApi(token=token).whoami()
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PermissionError(
            f"token: expected one that may write, received a read token of {account['name']!r}. Make one with the "
            "role 'write' at https://huggingface.co/settings/tokens."
        )


def _publish(
    folder: Path, repo_id: str, files: list[str], *, repo_type: str, private: bool | None, token: str | None
) -> str:
    """Commit `files` in one commit, which `upload_folder` does not where hf_xet is installed."""
    check_access(token)
    api = HfApi(token=token)
    lock = lock_inside(folder) if repo_type == "model" else lock_beside(folder.resolve())
    with locked(lock, f"the folder {folder}"), _explained(repo_id):
        repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise ValueError(
                f"private: expected a private repository, received {repo_id}, which exists and is public. Choose "
                "another name, or make it private on the Hub first."
            )
        card = (folder / "README.md").read_text(encoding="utf-8")  # its code names the repository on a line of its own
        card = re.sub(r'^repo_id = ".*"$', f'repo_id = "{repo_id}"', card, flags=re.MULTILINE)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, card.encode() if name == "README.md" else str(folder / name)) for name in files
        ]
        folders = {Path(name).parent for name in files if name.endswith(STALE[repo_type])}
        for name in api.list_repo_files(repo_id, repo_type=repo_type):
            if name.endswith(STALE[repo_type]) and name not in files and Path(name).parent in folders:
                operations.append(CommitOperationDelete(name))
        commit = api.create_commit(repo_id, operations, commit_message=f"Publish {repo_type}", repo_type=repo_type)
        remove_leftovers(folder / "README.md")
        write_text(folder / "README.md", card)
    logger.info("published %d files: %s", len(files), commit.commit_url)
    return commit.commit_url


@contextmanager
def _explained(repo_id: str = "the Hub") -> Iterator[None]:
    """Turn the client's errors into ones that say what to do."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PermissionError(
            "token: expected one with which to publish, received none. Set HF_TOKEN, or run `hf auth login`."
        ) from error
    except HfHubHTTPError as error:
        status, said = error.response.status_code, without_secrets(str(error))
        if status in (401, 403):
            raise PermissionError(
                f"{repo_id}: expected a token that may write there, received one that the Hub refuses "
                f"({error.server_message or status}). Check the name, the token (HF_TOKEN or `hf auth login`) and its "
                "rights. Nothing was published."
            ) from error
        raise OSError(f"{repo_id}: the Hub refused to publish and changed nothing: {said}") from error
    except (HTTPError, ConnectionError, RuntimeError) as error:  # a broken connection: httpx, hf_xet, an LFS upload
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, HTTPError):
            raise
        said = without_secrets(str(error.__cause__ or error))  # with the address of HF_ENDPOINT
        raise ConnectionError(
            f"{repo_id}: the connection to the Hub failed ({said}). Nothing is half published: "
            "the repository has all of the files or is as it was. Run `vmhan publish` again: what has arrived "
            "is not sent twice."
        ) from error


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Publish a finished folder on the Hugging Face Hub.")
    parser.add_argument("folder", help="--output_dir of run_mmre.py, or a folder of Parquet files with a card.")
    parser.add_argument("repo_id", help="USER/NAME; made if it is not there.")
    parser.add_argument("--repo_type", choices=("model", "dataset"), default="model")
    parser.add_argument("--private", action="store_true", help="Make the repository private.")
    parser.add_argument("--predictions", action="store_true", help="Publish predictions.jsonl, too.")
    parser.add_argument("--dry_run", action="store_true", help="Only list what would be published.")
    arguments = parser.parse_args(argv)
    check_repo_id("REPO_ID", arguments.repo_id)
    if arguments.predictions and arguments.repo_type != "model":
        parser.error("--predictions is for models: leave it out with --repo_type dataset.")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    options = {"predictions": arguments.predictions} if arguments.repo_type == "model" else {}
    if arguments.dry_run:
        print("\n".join(publishable_files(arguments.folder, repo_type=arguments.repo_type, **options)))
    else:
        publish = publish_model if arguments.repo_type == "model" else publish_dataset
        print(publish(arguments.folder, arguments.repo_id, private=arguments.private or None, **options))
    return 0
