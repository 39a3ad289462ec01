"""Posts with what some baselines read beside or instead of features."""

import torch
from PIL import Image
from tiny import WORDS


__all__ = ["DEPTH_SIZE", "picture_of", "with_details", "with_pixels"]

DEPTH_SIZE = 6


def picture_of(post, seed=0):
    generator = torch.Generator().manual_seed(len(post["tokens"]) + 100 * seed)
    return Image.fromarray(torch.randint(256, (40, 48, 3), generator=generator).byte().numpy())


def with_pictures(posts):
    """The same posts with seeded pictures, and boxes for their objects."""
    for post in posts:
        if "image_features" in post:
            post["image"] = picture_of(post)
            post["boxes"] = [(4 * i, 3 * i, 4 * i + 12, 3 * i + 16) for i in range(len(post["object_features"]))]
    return posts


def with_pixels(posts):
    """The same posts with pictures and boxes in the place of features."""
    dropped = ("image_features", "object_features")
    return [{key: value for key, value in post.items() if key not in dropped} for post in with_pictures(posts)]


def with_details(posts):
    """The same posts with what moreformer reads of objects beside their features."""
    for post in with_pictures(posts):
        count = len(post.get("boxes", []))
        post["object_labels"] = [f"the {WORDS[3 * i]}" for i in range(count)]
        generator = torch.Generator().manual_seed(count)
        post["object_depths"] = torch.rand(count, DEPTH_SIZE, generator=generator).tolist()
    return posts
