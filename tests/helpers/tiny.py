"""Names and sizes of the tiny models and posts, and an environment that has only what a stranger has."""

import importlib.metadata
import re

from packaging.requirements import Requirement


VISUAL_SIZE = 8
LABELS = ["peer", "None", "member_of", "located_in"]  # the none label is deliberately not id 0
STRANGERS_PACKAGES = ["torch", "torchvision", "transformers", "pillow"]  # all that a saved folder's code needs
WORDS = "ann met bob in paris with the band they played a red car next to big stage and blue sky at night".split()


def _with_what_they_need(names):
    """Names of these distributions and of all that they require, without extras."""
    needed, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in needed:
            needed.add(name)
            wanted = [Requirement(line) for line in importlib.metadata.distribution(name).requires or []]
            waiting += [w.name for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})]
    return needed


def link_distributions(site, names):
    """Make the empty folder `site` a site-packages of these installed distributions and what they need; returns it."""
    for name in _with_what_they_need(names):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return site
