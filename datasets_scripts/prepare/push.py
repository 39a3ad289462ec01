"""A finished data set folder goes to the Hub, in one commit, through the one file that publishes."""

from pathlib import Path
from typing import Any

from datasets_scripts.prepare.arguments import PrepareArguments
from model_cards.publishing import check_access, publish_dataset


__all__ = ["check_may_be_pushed", "check_token", "push"]


def check_may_be_pushed(posts: Any, *, allow_leaky: bool) -> None:
    """ValueError if the data set is marked as leaky and that was not allowed."""
    from datasets_scripts.leaks import leak_status

    reasons = leak_status(posts)
    if reasons and not allow_leaky:
        raise ValueError(
            f"push_to_hub: expected a data set that does not give its labels away, received one marked as leaky: "
            f"{' '.join(reasons)} If it is to be published nevertheless, mark and all, pass --allow_leaky true"
        )


def check_token() -> None:
    """Before hours of work: PermissionError without a token that may write, OSError if the Hub is out of reach."""
    check_access()


def push(output_dir: Path, arguments: PrepareArguments) -> str:
    """Publish the folder; shards of an earlier upload that it does not have any more are removed.

    Returns:
        The address of the commit.

    Raises:
        PermissionError, OSError: as `publish_dataset`; the repository has all of the files or is as it was.
    """
    return publish_dataset(output_dir, arguments.push_to_hub, private=arguments.private or None)
