"""The data sets that are built here, by the name of their configuration."""

from datasets_scripts.builders.jsonl import Posts
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.builders.more import MORE
from datasets_scripts.builders.postcards import Postcards


__all__ = ["BUILDERS"]

BUILDERS = {
    "mnre": MNRE,
    "mnre_v1": MNRE,
    "mnre_published_objects": MNRE,
    "more": MORE,
    "postcards": Postcards,
    "jsonl": Posts,
}
