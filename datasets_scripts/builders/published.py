"""The auxiliary files that travel with MNRE-2 and give its labels away; read only where a user asks for them by name.

`mre_{train,val,test}_dict.pth` (also `mre_dev_dict.pth`) is {line of the text file: [file name of a crop, ...]}, with
names like `12059_pred_yolo_crop_14703.png`: the line, then a running number. `phrase_text_{split}.json` is
{"line": "HEAD TAIL [TYPE [TYPE]]"}, the types being gold and present for positive lines only. Where in the image the
crops were cut is not recorded anywhere.

Source: the layout of HVPNeT's archive (Chen et al., Findings of NAACL 2022).
"""

from pathlib import Path
from typing import Any

import datasets

from datasets_scripts.builders.folders import Fact
from datasets_scripts.builders.lines import first_existing, read_json, read_pth
from datasets_scripts.leaks import LEAKY, PHRASE_TEXT, mark_leaky


__all__ = ["leaky_info", "published_files", "read_line_file", "with_published"]

CROPS, PHRASES = "mre_{}_dict.pth", "phrase_text_{}.json"
FOLDERS = ("", "txt", "mnre_txt", "leaky_auxiliary")


def leaky_info(info: datasets.DatasetInfo, phrase_text: bool) -> datasets.DatasetInfo:
    """`info` with the columns that `with_published` fills, and marked leaky."""
    names = ["crops", *(["image_phrases"] if phrase_text else [])]
    info.features["pairs"].feature.update({name: datasets.List(datasets.Value("string")) for name in names})
    mark_leaky(info, [LEAKY["mnre_published_objects"], *([PHRASE_TEXT] if phrase_text else [])])
    return info


def published_files(folder: Path, split: str, phrase_text: bool) -> list[Path]:
    """The crops' file of a split, then, if asked for, the phrases'; FileNotFoundError lists where they may be."""
    stems = {"validation": ("val", "dev")}.get(split, (split,))
    found = []
    for name in [CROPS, *([PHRASES] if phrase_text else [])]:
        paths = [folder / place / name.format(stem) for stem in stems for place in FOLDERS]
        found.append(first_existing(paths))
        if found[-1] is None:
            raise FileNotFoundError(
                f"mnre_published_objects: expected the published file of the {split} split in one of "
                f"{', '.join(map(str, paths))}, found none. Put it there, or build config_name="
                '"mnre_order_blind", which reads no such file'
            )
    return found


def with_published(
    facts: list[Fact], files: list[Path], images: dict[str, Path]
) -> tuple[list[Fact], dict[str, tuple[list[list[int]], list[str]]]]:
    """Give each pair what its line of the published files holds: `crops` are the names as they stand, its one image
    phrase the line's. Where the post's image is at hand, each crop is an object too, whose box is the whole image, so
    that a model sees as many visual nodes a pair as the published systems did. `facts` are in the order of the lines,
    `images` {image id: path}. Returns the facts, and {image id: (boxes, object_labels)} of the images at hand.
    """
    from modeling_vmhan.images import image_size  # here, as it brings in torch

    crops, *phrases = [read_line_file(path, len(facts)) for path in files]
    names: dict[str, list[str]] = {}
    for (_, image_id, pair), of_line in zip(facts, crops, strict=True):
        of_image = names.setdefault(image_id, [])
        indices = range(len(of_image), len(of_image) + len(of_line))
        pair |= {"crops": of_line, "objects": list(indices) if image_id in images else []}
        of_image += of_line
    for line, phrase in enumerate(phrases[0] if phrases else []):
        facts[line][2]["image_phrases"] = [phrase]
    objects = {}
    for image_id in names.keys() & images.keys():
        objects[image_id] = ([[0, 0, *image_size(images[image_id])]] * len(names[image_id]), names[image_id])
    return facts, objects


def read_line_file(path: Path, num_lines: int) -> list[Any]:
    """The values of a file keyed by line, in the order of the lines: lists of names (.pth) or phrases (.json).

    FileNotFoundError if it is not there; ValueError if it is unreadable or no dict of such values, one a line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"auxiliary: expected an existing file, received {path}")
    is_json = path.suffix == ".json"
    table = read_json(path, dict[str, str]) if is_json else read_pth(path, dict[int | str, list[str]])
    by_line = {str(line): value for line, value in table.items()}
    missing = [line for line in range(num_lines) if str(line) not in by_line]
    if missing or len(by_line) != num_lines:
        raise ValueError(
            f"{path}: expected one entry for each of the {num_lines} lines of the text, keys 0 to {num_lines - 1}, "
            f"received {len(by_line)} entries{f', none for line {missing[0]}' if missing else ''}. Pass the text file "
            "that it was made for"
        )
    return [by_line[str(line)] for line in range(num_lines)]
