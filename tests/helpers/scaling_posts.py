"""A few labelled posts with features, as a data set, for the tests of batches, streams and processes."""

import datasets
import numpy as np
from tiny import LABELS, VISUAL_SIZE, WORDS

from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph


def scaling_posts(count: int, seed: int = 0) -> datasets.Dataset:
    """Sentences of 4 to 12 words with 1 to 3 pairs, an image and up to 3 objects; every fifth has no image."""
    random = np.random.default_rng(seed)
    return datasets.Dataset.from_list(
        [_post(f"{seed}-{i}", random, has_image=i % 5 != 4) for i in range(count)],
        features=post_features(LABELS, images=False, visual_feature_size=VISUAL_SIZE),
    )


def _post(name, random, *, has_image):
    tokens = random.choice(WORDS, random.integers(4, 13)).tolist()
    objects = int(random.integers(1, 4)) if has_image else 0
    regions = random.normal(size=(1 + objects, VISUAL_SIZE)).astype(np.float16)
    count = random.integers(1, min(4, len(tokens) - 2))
    pairs = [new_pair([i, i + 1], [i + 2, i + 3], LABELS[random.integers(4)]) for i in range(count)]
    nodes = {"boxes": [[0.0, 0.0, 1.0, 1.0]] * objects, "object_labels": ["thing"] * objects}
    nodes |= {"image_features": regions[0] if has_image else None, "object_features": list(regions[1:])}
    return with_hypergraph(new_post(name, tokens, name, pairs, caption="a red car" if has_image else None, **nodes))
