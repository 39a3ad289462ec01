"""Images that the user has generated from the posts' texts, `--generated_images DIR`, which TMR reads."""

from pathlib import Path

import datasets


__all__ = ["with_generated_images"]


def with_generated_images(posts: datasets.DatasetDict, folder: str) -> datasets.DatasetDict:
    """The posts with the column `generated_image`, the path of the file in `folder` that the post's id names, whatever
    its ending. ValueError that names the first post without one and says how many there are.
    """
    files = {path.stem: str(path) for path in Path(folder).expanduser().glob("*.*")}
    names = {split: rows["id"] for split, rows in posts.items()}
    missing = [name for of_split in names.values() for name in of_split if name not in files]
    if missing:
        raise ValueError(
            f"--generated_images {folder}: expected an image for each post, named by its id, such as "
            f"{missing[0]}.png; {len(missing)} of {sum(map(len, names.values()))} posts have none, the first is "
            f"{missing[0]!r}. Generate them from the posts' texts."
        )
    for split, of_split in names.items():
        posts[split] = posts[split].add_column("generated_image", [files[name] for name in of_split])
    return posts
