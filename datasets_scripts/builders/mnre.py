"""MNRE, relation extraction over posts with an image, from the files people download by hand.

Two layouts load by pointing at the folder: the authors' (`mnre_txt/mnre_train.txt`, ...) and the one of most public
code (`txt/ours_train.txt`, ..., `ours_rel2id.json`); both keep images in `img_org/{train,val,test}/`.

The auxiliary object files that travel with MNRE give the label away (published.py). Only "mnre_published_objects"
opens them, so that published numbers can be compared with, and marks what it builds as leaky.

Source: Zheng, Wu, Feng, Fu and Cai, "MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual
Evidence in Social Media Posts", ICME 2021 (version 1); version 2 came with Zheng, Feng, Fu, Cai, Li and Wang,
"Multimodal Relation Extraction with Efficient Graph Alignment", ACM MM 2021.
"""

import logging
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import datasets
from pydantic import Field

from datasets_scripts.builders.folders import FolderBuilder, SelectorByRule, read_facts
from datasets_scripts.builders.lines import (
    first_existing,
    list_images,
    none_label_first,
    read_label_file,
    read_literals,
)
from datasets_scripts.builders.published import leaky_info, published_files, with_published
from datasets_scripts.checking import Record, check_config
from datasets_scripts.leaks import OFFICIAL, ORDER_BLIND, mark_protocol
from datasets_scripts.paths import check_name
from datasets_scripts.recipes import mark_recipe
from datasets_scripts.schema import group_into_posts, new_post, with_hypergraph
from modeling_vmhan.direction import directed_labels, to_text_order
from modeling_vmhan.phrases import noun_phrases


__all__ = ["FUNCTIONAL", "MNRE", "MNRE_LABELS", "MNREConfig", "read_captions", "read_labels"]

logger = logging.getLogger(__name__)

# Order = id, that of the public code's ours_rel2id.json ("alumi" is spelt so in the data).
MNRE_LABELS = """
    None /per/per/parent /per/per/siblings /per/per/couple /per/per/neighbor /per/per/peer /per/per/charges
    /per/per/alumi /per/per/alternate_names /per/org/member_of /per/loc/place_of_residence /per/loc/place_of_birth
    /org/org/alternate_names /org/org/subsidiary /org/loc/locate_at /loc/loc/contain /per/misc/present_in
    /per/misc/awarded /per/misc/race /per/misc/religion /per/misc/nationality /misc/misc/part_of /misc/loc/held_on
""".split()

# Of both versions: relations that point both ways, so that they have no inverse.
SYMMETRIC = """
    /per/per/peer /per/per/couple /per/per/siblings /per/per/neighbor /per/per/alumi /per/per/alternate_names
    /org/org/alternate_names
""".split()

# Of which a head has one tail.
FUNCTIONAL = ("/per/loc/place_of_birth",)

LABEL_FILES = ("ours_rel2id.json", "mnre_rel2id.json", "rel2id.json")
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

    Version 2.0.0 has 23 relations and `None`, 1.0.0 has 31 and `none`, whose labels are read from the folder.
    """

    images: bool | None = None  # True needs them, False leaves out the column, None takes them if there are any
    # NAME of captions/NAME_{train,val,test}.txt, one for each split there is; an empty one leaves its split without.
    # NAME+NAME puts an image's captions one behind the other.
    captions: str | None = None
    max_phrases: Annotated[int, Field(ge=0)] | None = None  # at most so many `image_phrases` a caption; None: all
    # "mnre_published_objects" only: a pair's image phrase is its line of phrase_text_{split}.json, gold types and all.
    phrase_text: bool = False
    # Pairs in text order, labels with a direction (modeling_vmhan/direction.py): the official order of head and tail
    # gives the label away.
    order_blind: bool = False
    # The rule that takes text phrases from the sentence and puts a pair's phrases and objects in order; None: nothing.
    selector: SelectorByRule | None = None

    @property
    def captioners(self) -> list[str]:
        """The names in `captions`."""
        return [] if self.captions is None else self.captions.split("+")

    def check(self) -> None:
        """ValueError on a value that no build can use."""
        check_config(self)
        for name in self.captioners:
            check_name("captions", name)
        if self.phrase_text and self.name != PUBLISHED:
            raise ValueError(
                f"phrase_text: expected False, received {self.phrase_text!r} with the config {self.name!r}. The file "
                f'gives the label away: to compare with published numbers, build config_name="{PUBLISHED}"'
            )
        if self.selector is not None and self.name == PUBLISHED:
            raise ValueError(
                f"selector: expected None with the config {PUBLISHED!r}, whose files choose each pair's objects, "
                f"received {self.selector!r}. Leave it out"
            )


class MNRE(FolderBuilder):
    """Posts of MNRE; use it through `datasets_scripts.builders.building.build`, which never serves a stale cache."""

    TITLE, HOW_TO_GET = "MNRE", HOW_TO_GET
    BUILDER_CONFIG_CLASS = MNREConfig
    BUILDER_CONFIGS: ClassVar = [
        MNREConfig(name="mnre", version="2.0.0", description="MNRE-2: 23 relations, 15,485 pairs"),
        MNREConfig(name="mnre_v1", version="1.0.0", description="MNRE-1: 31 relations, 10,081 pairs"),
        MNREConfig(
            name="mnre_order_blind", version="2.0.0", order_blind=True, description="MNRE-2, pairs in text order"
        ),
        MNREConfig(
            name="mnre_v1_order_blind", version="1.0.0", order_blind=True, description="MNRE-1, pairs in text order"
        ),
        MNREConfig(name=PUBLISHED, version="2.0.0", description="MNRE-2 with the published, leaky objects"),
    ]
    DEFAULT_CONFIG_NAME = "mnre"

    @staticmethod
    def text_paths(folder: Path, stem: str) -> list[Path]:
        """The authors' archive really has a file "mnre_val .txt", with a space."""
        names = (f"mnre_txt/mnre_{stem}.txt", f"mnre_txt/mnre_{stem} .txt", f"txt/ours_{stem}.txt")
        return [folder / name for name in names]

    @classmethod
    def source_files(cls, config: MNREConfig) -> list[Path]:
        """Every file that a build with `config` reads; `build` digests their names, sizes and times."""
        config.check()
        folder = cls.data_folder(config.data_dir)
        files = [first_existing(_label_paths(folder))]
        for split, path in cls.text_files(folder).items():
            files += [path, *cls.caption_files(config, folder, split)]
            files += published_files(folder, split, config.phrase_text) if config.name == PUBLISHED else []
            files += (
                [] if config.images is False else list_images(cls.image_folder(folder, split), inside=folder).values()
            )
        return [path for path in files if path]

    @classmethod
    def caption_files(cls, config: MNREConfig, folder: Path, split: str) -> list[Path]:
        """Where a split's captions are, a file each captioner."""
        return [folder / f"captions/{name}_{cls.SPLITS[split]}.txt" for name in config.captioners]

    def _info(self) -> datasets.DatasetInfo:
        self.config.check()
        files, images = self.text_files(self.folder), False
        if self.config.images is not False:
            places = [self.image_folder(self.folder, split) for split in files]
            images = any(list_images(place, inside=self.folder) for place in places)
            if self.config.images and not images:
                raise FileNotFoundError(
                    f"images=True: expected images in {', '.join(map(str, places))}, found none. {HOW_TO_GET} Or "
                    "build without them: images=False"
                )
        labels = read_labels(self.folder, files, version=str(self.config.version))
        if self.config.order_blind:
            labels = directed_labels(labels, SYMMETRIC)
        info = self.new_info(labels, images=images, homepage="https://github.com/thecharm/MNRE")
        if self.config.captions is not None:
            number = self.config.max_phrases
            mark_recipe(info, caption_phrases="all" if number is None else number)
        mark_protocol(info, ORDER_BLIND if self.config.order_blind else OFFICIAL)
        return leaky_info(info, self.config.phrase_text) if self.config.name == PUBLISHED else info

    def _generate_examples(self, split: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        image_folder, wants_images = self.image_folder(self.folder, split), "image" in self.info.features
        images = list_images(image_folder, inside=self.folder) if wants_images else {}
        captions = {path: read_captions(path) for path in self.caption_files(self.config, self.folder, split)}
        facts, objects = list(read_facts(path, labels=self.labels)), {}
        if self.config.name == PUBLISHED:
            files = published_files(self.folder, split, self.config.phrase_text)
            facts, objects = with_published(facts, files, images)
        if self.config.order_blind:
            facts = [(tokens, image_id, to_text_order(pair, SYMMETRIC)) for tokens, image_id, pair in facts]
        posts = group_into_posts(facts)
        for index, ((tokens, image_id), pairs) in enumerate(posts.items()):
            caption = " ".join(filter(None, (of_file.get(image_id) for of_file in captions.values()))) or None
            boxes, object_labels = objects.get(image_id, ([], []))
            phrases = noun_phrases(caption, self.config.max_phrases) if caption else []
            nodes = {"boxes": boxes, "object_labels": object_labels, "caption": caption, "image_phrases": phrases}
            if wants_images:
                nodes["image"] = str(images[image_id]) if image_id in images else None
            post = new_post(f"{split}-{index}", tokens, image_id, pairs, **nodes)
            yield index, with_hypergraph(self.with_nodes(post))
        image_ids = {image_id for _, image_id in posts}
        if wants_images:
            _warn_of_missing(f"images of {split}", image_ids, images, image_folder)
        for caption_file, of_file in captions.items():
            _warn_of_missing(f"captions of {split}", image_ids, of_file, caption_file)


def read_labels(folder: Path, text_files: dict[str, Path], *, version: str) -> list[str]:
    """The relations of an MNRE folder, order = id: its label file; else MNRE_LABELS (version 2), or those of all
    splits (version 1, of which no authoritative list is public), sorted after the none label."""
    path = first_existing(_label_paths(folder))
    if path:
        return read_label_file(path)
    if not version.startswith("1."):
        return list(MNRE_LABELS)
    facts = (fact for path in text_files.values() for fact in read_facts(path, labels=None))
    labels = none_label_first({pair["relation"] for _, _, pair in facts})
    logger.warning("%s has no label file: the ids of its %d relations follow their names", folder, len(labels))
    return labels


def read_captions(path: Path) -> dict[str, str | None]:
    """{image id: caption} of a file of {'img_id', 'text'} lines; texts are stripped, an empty one is None.

    FileNotFoundError without the file, ValueError on a malformed line or two captions of one image.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"captions: expected the file {path}, as scores on a split without captions are of other inputs than the "
            "model learned from. Pass NAME of captions/NAME_{train,val,test}.txt, one for each split, or put "
            "an empty file there to leave this split without"
        )
    captions: dict[str, str | None] = {}
    for place, record in read_literals(path, Caption):
        image_id, caption = str(record.img_id), record.text.strip() or None
        if captions.setdefault(image_id, caption) != caption:
            raise ValueError(f"{place}, field 'img_id': {image_id!r} already has another caption; keep one of them")
    return captions


class Caption(Record):
    """A line of a file of captions."""

    img_id: str | int
    text: str


def _label_paths(folder: Path) -> list[Path]:
    return [place / name for place in (folder, folder / "mnre_txt", folder / "txt") for name in LABEL_FILES]


def _warn_of_missing(what: str, image_ids: set[str], found: Container[str], place: Path) -> None:
    missing = sorted(image_id for image_id in image_ids if image_id not in found)
    if missing:
        counts = (len(missing), len(image_ids))
        logger.warning("%d of %d %s are not in %s, for instance %s", *counts, what, place, missing[0])
