"""Options of what answers that vmhan predict leaves to its defaults where they are not given."""

import argparse
from typing import Any

from vmhan.inference.mention_finders import find_mention_finder


__all__ = ["OPTIONAL", "optional"]

OPTIONAL = ("mentions", "min_score", "min_precision", "all_pairs", "num_samples")


def optional(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those of OPTIONAL that are given, with the finder of mentions in the place of its name."""
    given = {name: value for name in OPTIONAL if (value := getattr(arguments, name)) is not None}
    return given | ({"mentions": find_mention_finder(given["mentions"])} if "mentions" in given else {})
