"""A post for the node selectors, and a pair whose label cannot be read."""

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
    post = {
        "id": "train-0",
        "tokens": TOKENS,
        "image_id": "1.jpg",
        "boxes": [[0, 0, 5, 5], [5, 5, 20, 20], [1, 1, 9, 9], [0, 0, 30, 20], [2, 2, 8, 8]],
        "object_labels": ["person", "cup", "court", "Bowie knife", "person"],
        "image_phrases": ["a stage", "old David", "bright lights", "London skyline"],
        "pairs": [
            {"head": [2, 4], "tail": [6, 8], "tail_object": -1, "relation": 3},
            {"head": [9, 10], "tail": [2, 4], "tail_object": -1, "relation": 0},
        ],
    }
    return post | changes


def words(post, spans):
    return [" ".join(post["tokens"][start:end]) for start, end in spans]
