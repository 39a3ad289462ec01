"""How many objects and phrases a pair's hypergraph gets at most, and whether the data have any.

A number that a file or a flag names must be met: above 0, with none in the data, it is an error. A number that nobody
names is the configuration's own where the data have any, and 0 where they have none, so that the saved `config.json`
asks for nothing that the model never saw.
"""

import logging
from collections.abc import Iterable, Mapping

import datasets

from datasets_scripts.splits import count_filled


__all__ = ["NODE_NUMBERS", "node_numbers"]

logger = logging.getLogger(__name__)

# Of each number: what it counts, where the data have it, and how to get some.
NODE_NUMBERS = {
    "num_objects": (
        "objects that the model can see",
        ("boxes", "object_features"),
        "`vmhan prepare --detector NAME --features NAME` finds and encodes them",
    ),
    "num_text_phrases": (
        "text phrases",
        ("pairs.text_phrases",),
        "--selector heuristic takes them from the sentences of mnre, more and jsonl, `vmhan prepare` of any posts",
    ),
    "num_image_phrases": (
        "phrases about the image",
        ("image_phrases", "caption"),
        "--captions NAME takes them from mnre's captions, `vmhan prepare --selector openai:MODEL@URL` asks for them",
    ),
}


def node_numbers(
    named: Mapping[str, int],
    posts: datasets.DatasetDict,
    names: Iterable[str] = tuple(NODE_NUMBERS),
    *,
    sees_regions: bool,
) -> dict[str, int]:
    """Those of `names` that are named, and 0 for those that are not and of which the data have nothing.

    The train split is counted, else the first; a stream is not. Objects count where the model `sees_regions` of the
    image. ValueError for a number above 0 of which there is nothing.
    """
    counted = [split for split in ("train", *posts) if isinstance(posts.get(split), datasets.Dataset)]
    if not counted:
        return {name: named[name] for name in names if name in named}
    table, numbers = posts[counted[0]].data.table, {}
    for name in names:
        what, places, fix = NODE_NUMBERS[name]
        is_seen = name != "num_objects" or sees_regions
        if is_seen and any(count_filled(table, place)[0] for place in places):
            numbers |= {name: named[name]} if name in named else {}
        elif named.get(name, 0) > 0:
            raise ValueError(
                f"--{name}: expected {what} in the data, received {named[name]}, and 0 of the {len(table)} posts of "
                f"the {counted[0]} split have any. {fix}. Or pass --{name} 0."
            )
        else:
            numbers[name] = 0
            logger.info("no post of the %s split has %s: %s is 0", counted[0], what, name)
    return numbers
