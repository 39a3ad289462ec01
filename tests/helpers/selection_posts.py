"""A post for the node selectors, and a pair whose label cannot be read."""

from datasets_scripts.schema import new_pair, new_post


TOKENS = "Reuters : David Bowie sings at Earls Court in London , says Gus Stewart".split()


class Blind(dict):
    """A pair whose relation nobody may read."""

    def __getitem__(self, key):
        assert key != "relation"
        return super().__getitem__(key)

    def get(self, key, default=None):
        assert key != "relation"
        return super().get(key, default)


def make_post(**changes):
    """A post with two pairs, five boxes and four image phrases."""
    nodes = {
        "boxes": [[0, 0, 5, 5], [5, 5, 20, 20], [1, 1, 9, 9], [0, 0, 30, 20], [2, 2, 8, 8]],
        "object_labels": ["person", "cup", "court", "Bowie knife", "person"],
        "image_phrases": ["a stage", "old David", "bright lights", "London skyline"],
    }
    pairs = [new_pair([2, 4], [6, 8], 3), new_pair([9, 10], [2, 4], 0)]
    return new_post("train-0", TOKENS, "1.jpg", pairs, **nodes) | changes


def words(post, spans):
    return [" ".join(post["tokens"][start:end]) for start, end in spans]
