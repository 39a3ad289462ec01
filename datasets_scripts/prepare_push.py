"""A finished data set folder goes to the Hub, in one commit."""

import logging
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from datasets_scripts.prepare_arguments import PrepareArguments


__all__ = ["check_may_be_pushed", "push"]

logger = logging.getLogger(__name__)


def check_may_be_pushed(posts: Any, *, allow_leaky: bool) -> None:
    """ValueError if the data set is marked as leaky and that was not allowed."""
    from datasets_scripts.leaks import leak_status

    reasons = leak_status(posts)
    if reasons and not allow_leaky:
        raise ValueError(
            f"push_to_hub: expected a data set that does not give its labels away, received one marked as leaky: "
            f"{' '.join(reasons)} If it is to be published nevertheless, mark and all, pass --allow_leaky true"
        )


def push(output_dir: Path, arguments: PrepareArguments) -> str:
    """Upload the folder as it is; shards of an earlier upload that it does not have any more are removed.

    Returns:
        The address of the commit.

    Raises:
        OSError: the Hub refused or could not be reached; nothing is changed there then.
    """
    api = HfApi()
    repo_id = api.create_repo(
        arguments.push_to_hub, repo_type="dataset", private=arguments.private or None, exist_ok=True
    ).repo_id
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=output_dir,
        repo_type="dataset",
        commit_message=f"Prepare {arguments.config} with datasets_scripts.prepare",
        delete_patterns=[f"{arguments.config}/*.parquet"],
    )
    logger.info("pushed to %s", commit.commit_url)
    return commit.commit_url
