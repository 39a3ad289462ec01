"""MNRE, relation extraction over posts with an image, from the files people download by hand.

Two folder layouts load by pointing at the folder: the authors' (`mnre_txt/mnre_train.txt`, ...) and the one of most
public code (`txt/ours_train.txt`, ..., `ours_rel2id.json`); both keep images in `img_org/{train,val,test}/`.

The configs "mnre" and "mnre_v1" never open the auxiliary object files that travel with MNRE (`mre_*_dict.pth`,
`phrase_text_*.json`): they are keyed by line and were made with the gold entity types, so that they give the label
away. "mnre_published_objects" does, so that published numbers can be compared with, and marks what it builds as leaky.

Source: Zheng, Wu, Feng, Fu and Cai, "MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual
Evidence in Social Media Posts", ICME 2021 (version 1); version 2 came with Zheng, Feng, Fu, Cai, Li and Wang,
"Multimodal Relation Extraction with Efficient Graph Alignment", ACM MM 2021.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import datasets

from datasets_scripts.builders.lines import (
    data_folder,
    first_existing,
    list_images,
    mention_span,
    no_records,
    read_label_file,
    read_literals,
)
from datasets_scripts.nodes.phrases import noun_phrases
from datasets_scripts.schema import group_into_posts, post_features


__all__ = ["MNRE", "MNRE_LABELS", "MNREConfig"]

logger = logging.getLogger(__name__)

# Order = id, that of the public code's ours_rel2id.json ("alumi" is spelt so in the data).
MNRE_LABELS = [
    "None",
    "/per/per/parent",
    "/per/per/siblings",
    "/per/per/couple",
    "/per/per/neighbor",
    "/per/per/peer",
    "/per/per/charges",
    "/per/per/alumi",
    "/per/per/alternate_names",
    "/per/org/member_of",
    "/per/loc/place_of_residence",
    "/per/loc/place_of_birth",
    "/org/org/alternate_names",
    "/org/org/subsidiary",
    "/org/loc/locate_at",
    "/loc/loc/contain",
    "/per/misc/present_in",
    "/per/misc/awarded",
    "/per/misc/race",
    "/per/misc/religion",
    "/per/misc/nationality",
    "/misc/misc/part_of",
    "/misc/loc/held_on",
]

SPLITS = {"train": "train", "validation": "val", "test": "test"}  # ours: theirs
LABEL_FILES = ("ours_rel2id.json", "mnre_rel2id.json", "rel2id.json")
FIELDS = ("token", "h", "t", "img_id", "relation")
PUBLISHED = "mnre_published_objects"  # the one config that reads the leaky files

HOW_TO_GET = (
    "MNRE is downloaded by hand: get mnre_txt/ from https://github.com/thecharm/MNRE and the images from the Google "
    "Drive linked there, and put both into one folder, so that it holds mnre_txt/mnre_train.txt and img_org/train/ "
    '(or txt/ours_train.txt, as in the peers\' archives). Then pass it: build(MNRE, config_name="mnre", '
    'data_dir="that/folder").'
)


@dataclass
class MNREConfig(datasets.BuilderConfig):
    """What to read of an MNRE folder.

    Attributes:
        version: "2.0.0" (23 relations, `None`) or "1.0.0" (31 relations, `none`; the labels are read from the folder).
        images: True needs them, False leaves out the column, None takes them if the folder has any.
        captions: None; the name NAME of a source, read from `captions/NAME_{train,val,test}.txt` (a split whose file
            is not there is built without captions, unless no split has one); or a tuple of three files for train,
            validation and test (None for a split without one).
        max_phrases: at most so many `image_phrases` a caption; None keeps all.
        phrase_text: "mnre_published_objects" only: whether a pair gets its line of `phrase_text_{split}.json`, gold
            entity types and all, as its one image phrase.
    """

    images: bool | None = None
    captions: str | tuple[str | None, ...] | None = None
    max_phrases: int | None = None
    phrase_text: bool = False

    def check(self) -> None:
        """ValueError on a value no build can use; the builder calls it, since `datasets` sets fields one by one."""
        if _major(self) not in ("1", "2"):
            raise ValueError(f"version: expected 1.x or 2.x, received {self.version}")
        if self.images not in (None, True, False):
            raise ValueError(f"images: expected True, False or None, received {self.images!r}")
        is_files = isinstance(self.captions, (tuple, list)) and len(self.captions) == len(SPLITS)
        if not (is_files or self.captions is None or isinstance(self.captions, str)):
            raise ValueError(
                f"captions: expected the name of a source or the files of (train, validation, test), received "
                f"{self.captions!r}"
            )
        if self.max_phrases is not None and (type(self.max_phrases) is not int or self.max_phrases < 0):
            raise ValueError(f"max_phrases: expected None or an int of at least 0, received {self.max_phrases!r}")
        if type(self.phrase_text) is not bool:
            raise ValueError(f"phrase_text: expected True or False, received {self.phrase_text!r}")
        if self.phrase_text and self.name != PUBLISHED:
            raise ValueError(
                f"phrase_text: expected False, received {self.phrase_text!r} with the config {self.name!r}. The file "
                f'gives the label away: to compare with published numbers, build config_name="{PUBLISHED}"'
            )


class MNRE(datasets.GeneratorBasedBuilder):
    """Posts of MNRE; use it through `datasets_scripts.builders.building.build`, which keeps cached sets honest.

    Example:
        >>> build(MNRE, config_name="mnre", data_dir="data/mnre", captions="llava_next")  # doctest: +SKIP
    """

    BUILDER_CONFIG_CLASS = MNREConfig
    BUILDER_CONFIGS: ClassVar = [
        MNREConfig(name="mnre", version=datasets.Version("2.0.0"), description="MNRE-2: 23 relations, 15,485 pairs"),
        MNREConfig(
            name="mnre_v1", version=datasets.Version("1.0.0"), description="MNRE-1: 31 relations, 10,081 pairs"
        ),
        MNREConfig(
            name=PUBLISHED, version=datasets.Version("2.0.0"), description="MNRE-2 with the published, leaky objects"
        ),
    ]
    DEFAULT_CONFIG_NAME = "mnre"

    @classmethod
    def source_files(cls, config: MNREConfig) -> list[Path]:
        """Every file a build with `config` reads; `build` digests their names, sizes and times."""
        config.check()
        folder = data_folder(config.data_dir, how_to_get=HOW_TO_GET)
        labels = first_existing(_label_paths(folder))
        files = [*_text_files(folder).values(), *([labels] if labels else [])]
        for split in _text_files(folder):
            caption_file = _caption_file(config, folder, split)
            files += [caption_file] if caption_file else []
            if config.name == PUBLISHED:
                files += _published().published_files(folder, split, config.phrase_text)
            files += [] if config.images is False else list_images(_image_folder(folder, split)).values()
        return files

    def _info(self) -> datasets.DatasetInfo:
        self.config.check()
        folder = data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        info = datasets.DatasetInfo(
            description=f"{self.config.description}, read from files downloaded by hand",
            homepage="https://github.com/thecharm/MNRE",
            features=post_features(
                read_labels(folder, version=_major(self.config)),
                images=_use_images(self.config, folder),
                visual_feature_size=None,
            ),
        )
        return _published().leaky_info(info, self.config.phrase_text) if self.config.name == PUBLISHED else info

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        folder = data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        text_files = _text_files(folder)
        for split, stem in SPLITS.items():
            if split not in text_files:
                looked_for = ", ".join(map(str, _text_paths(folder, stem)))
                logger.warning("MNRE has no %s split in %s (looked for %s): it is left out", split, folder, looked_for)
        return [
            datasets.SplitGenerator(
                name=split, gen_kwargs={"split": split, "path": path, "images": _image_folder(folder, split)}
            )
            for split, path in text_files.items()
        ]

    def _generate_examples(self, split: str, path: Path, images: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        columns, folder = self.info.features, data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        caption_file = _caption_file(self.config, folder, split)
        captions = read_captions(caption_file) if caption_file else {}
        if caption_file is None and isinstance(self.config.captions, str):
            looked_for = _named_caption_file(self.config.captions, folder, split)
            logger.warning("MNRE has no captions of %s (looked for %s): it is built without", split, looked_for)
        image_paths = list_images(images) if "image" in columns else {}
        facts = _facts_of_split(path, labels=columns["pairs"].feature["relation"].names)
        objects: dict[str, tuple[list[list[int]], list[str]]] = {}  # {image id: (boxes, labels)}
        if self.config.name == PUBLISHED:
            facts, objects = _published().with_published(
                facts, _published().published_files(folder, split, self.config.phrase_text), image_paths
            )
        posts = group_into_posts(facts)
        for index, ((tokens, image_id), pairs) in enumerate(posts.items()):
            caption, (boxes, object_labels) = captions.get(image_id), objects.get(image_id, ([], []))
            post = {
                "id": f"{split}-{index}",
                "tokens": list(tokens),
                "image_id": image_id,
                "boxes": boxes,
                "object_labels": object_labels,
                "caption": caption,
                "image_phrases": noun_phrases(caption, self.config.max_phrases) if caption else [],
                "pairs": pairs,
            }
            if "image" in columns:
                post["image"] = str(image_paths[image_id]) if image_id in image_paths else None
            yield index, post
        image_ids = {image_id for _, image_id in posts}
        if "image" in columns:
            _warn_missing(image_ids - image_paths.keys(), len(image_ids), f"images of {split}", images)
        if caption_file:
            _warn_missing(image_ids - captions.keys(), len(image_ids), f"captions of {split}", caption_file)


def read_facts(path: Path, *, labels: list[str] | None) -> Iterator[tuple[list[str], str, dict[str, Any]]]:
    """Yield (tokens, image_id, pair) for each line of an MNRE text file, in file order.

    `labels` None accepts every relation. A mention whose name is not the text of its span is kept: the span counts,
    and one warning tells how many there were.

    Raises:
        ValueError: a malformed line or an unknown relation; names file, line and field.
    """
    misnamed: list[str] = []
    for place, record in read_literals(path, fields=FIELDS):
        spans = {}
        for field in ("h", "t"):
            spans[field], same_name = mention_span(record[field], record["token"], place=place, field=field)
            misnamed += [] if same_name else [f"{place}, field {field!r}"]
        if type(record["img_id"]) not in (str, int):
            raise ValueError(f"{place}, field 'img_id': expected a file name, received {record['img_id']!r}")
        if labels is not None and record["relation"] not in labels:
            raise ValueError(
                f"{place}, field 'relation': expected one of {labels}, received {record['relation']!r}. If the file "
                'is of the other version of MNRE, build it with config_name="mnre" (version 2) or "mnre_v1"'
            )
        yield (
            record["token"],
            str(record["img_id"]),
            {
                "head": spans["h"],
                "tail": spans["t"],
                "tail_object": -1,
                "relation": record["relation"],
                "text_phrases": [],
                "image_phrases": [],
                "objects": [],
            },
        )
    if misnamed:
        logger.warning("%d mentions are not named as their span reads, the first: %s", len(misnamed), misnamed[0])


def read_labels(folder: Path, *, version: str) -> list[str]:
    """The relations of an MNRE folder, order = id: its label file; else MNRE_LABELS (version "2"), or those of all
    splits (version "1", of which no authoritative list is public), sorted after the none label."""
    path = first_existing(_label_paths(folder))
    if path:
        return read_label_file(path)
    if version == "2":
        return list(MNRE_LABELS)
    from modeling_vmhan.labels import find_none_label

    facts = (fact for path in _text_files(folder).values() for fact in _facts_of_split(path, labels=None))
    labels = sorted({pair["relation"] for _, _, pair in facts})
    none_label = find_none_label(labels)
    logger.warning("%s has no label file: the ids of its %d relations follow their names", folder, len(labels))
    return [none_label, *(label for label in labels if label != none_label)]


def read_captions(path: Path) -> dict[str, str | None]:
    """{image id: caption} of a file of {'img_id', 'text'} lines; texts are stripped, an empty one is None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line, or two different captions of one image.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"captions: expected the file {path}. Pass the name NAME of files captions/NAME_{{train,val,test}}.txt in "
            "data_dir, a tuple of three files (None for a split without one), or captions=None"
        )
    captions: dict[str, str | None] = {}
    for place, record in read_literals(path, fields=("img_id", "text")):
        if type(record["text"]) is not str:
            raise ValueError(f"{place}, field 'text': expected a string, received {record['text']!r}")
        image_id, caption = str(record["img_id"]), record["text"].strip() or None
        if captions.setdefault(image_id, caption) != caption:
            raise ValueError(f"{place}, field 'img_id': {image_id!r} already has another caption; keep one of them")
    return captions


def _facts_of_split(path: Path, *, labels: list[str] | None) -> list[tuple[list[str], str, dict[str, Any]]]:
    """What `read_facts` yields; ValueError if that is nothing."""
    facts = list(read_facts(path, labels=labels))
    if not facts:
        raise no_records(path)
    return facts


def _published() -> ModuleType:
    """The reader of the leaky files, imported only for the config that asks for them."""
    from datasets_scripts.builders import published

    return published


def _major(config: MNREConfig) -> str:
    return str(config.version).split(".")[0]


def _text_paths(folder: Path, stem: str) -> list[Path]:
    """Where a split's text may be; the authors' archive really has a file "mnre_val .txt", with a space."""
    official = [folder / "mnre_txt" / f"mnre_{stem}.txt", folder / "mnre_txt" / f"mnre_{stem} .txt"]
    return [*official, folder / "txt" / f"ours_{stem}.txt"]


def _label_paths(folder: Path) -> list[Path]:
    return [place / name for place in (folder, folder / "mnre_txt", folder / "txt") for name in LABEL_FILES]


def _image_folder(folder: Path, split: str) -> Path:
    return folder / "img_org" / SPLITS[split]


def _text_files(folder: Path) -> dict[str, Path]:
    """{split: path} of the splits that are there; FileNotFoundError if none is."""
    paths = {split: _text_paths(folder, stem) for split, stem in SPLITS.items()}
    found = {split: first_existing(candidates) for split, candidates in paths.items()}
    if not any(found.values()):
        looked_for = ", ".join(str(path) for candidates in paths.values() for path in candidates)
        raise FileNotFoundError(f"data_dir: {folder} has no split of MNRE, looked for {looked_for}. {HOW_TO_GET}")
    return {split: path for split, path in found.items() if path}


def _use_images(config: MNREConfig, folder: Path) -> bool:
    """Whether to have an image column; FileNotFoundError if images are asked for and there is none."""
    if config.images is False:
        return False
    has_images = any(list_images(_image_folder(folder, split)) for split in _text_files(folder))
    if config.images and not has_images:
        places = ", ".join(str(_image_folder(folder, split)) for split in _text_files(folder))
        raise FileNotFoundError(
            f"images=True: expected images in {places}, found none. {HOW_TO_GET} Or build without: images=False"
        )
    return has_images


def _named_caption_file(name: str, folder: Path, split: str) -> Path:
    return folder / "captions" / f"{name}_{SPLITS[split]}.txt"


def _caption_file(config: MNREConfig, folder: Path, split: str) -> Path | None:
    """Where a split's captions are; None for a split without: by NAME, one whose file only other splits have."""
    if isinstance(config.captions, str):
        files = {there: _named_caption_file(config.captions, folder, there) for there in _text_files(folder)}
        left_out = not files[split].is_file() and any(path.is_file() for path in files.values())
        return None if left_out else files[split]
    path = dict(zip(SPLITS, config.captions or (), strict=False)).get(split)
    return Path(os.path.abspath(Path(path).expanduser())) if path else None


def _warn_missing(missing: set[str], total: int, what: str, place: Path) -> None:
    if missing:
        logger.warning("%d of %d %s are not in %s, for instance %s", len(missing), total, what, place, min(missing))
