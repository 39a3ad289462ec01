"""What the builders of folders share: a text file and a folder of images a split, and lines that are facts.

A fact is a line of MNRE or MORE: a sentence, its image and one pair of entities in it.
"""

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import datasets
from pydantic import Field

from datasets_scripts.builders.lines import first_existing, no_records, read_literals
from datasets_scripts.checking import Box, Record, Span
from datasets_scripts.recipes import mark_recipe, recorded_selector
from datasets_scripts.schema import new_pair, post_features
from modeling_vmhan.values import shown


__all__ = ["BoxMention", "Fact", "FolderBuilder", "SelectorByRule", "TextFact", "read_facts"]

logger = logging.getLogger(__name__)

Fact = tuple[list[str], str, dict[str, Any]]  # tokens, image id, pair

# `selector` of a builder's config; language models choose in `vmhan prepare`, which keeps what they answered.
SelectorByRule = Annotated[str, Field(pattern="^(heuristic|spacy:.+)$")]
# Of phrases and objects: the model's own numbers say how many of them become nodes.
ALL = dict.fromkeys(("num_text_phrases", "num_image_phrases", "num_objects"), 1 << 20)


class FolderBuilder(datasets.GeneratorBasedBuilder):
    """A builder that reads the user's folder. A subclass says what it reads, and where a split's text may be."""

    TITLE: ClassVar[str]
    HOW_TO_GET: ClassVar[str]  # the end of each message about data that are not there
    SPLITS: ClassVar[dict[str, str]] = {"train": "train", "validation": "val", "test": "test"}  # ours: theirs

    @staticmethod
    def text_paths(folder: Path, stem: str) -> list[Path]:
        """Where the text of the split that the files call `stem` may be."""
        raise NotImplementedError

    @classmethod
    def data_folder(cls, data_dir: str | Path | None) -> Path:
        """The user's folder as an absolute path without ".."; ValueError or FileNotFoundError if there is none."""
        if data_dir is None:
            raise ValueError(f"data_dir: expected the folder that holds the data, received None. {cls.HOW_TO_GET}")
        folder = Path(os.path.abspath(Path(data_dir).expanduser()))
        if not folder.is_dir():
            raise FileNotFoundError(f"data_dir: expected an existing folder, received {folder}. {cls.HOW_TO_GET}")
        return folder

    @classmethod
    def text_files(cls, folder: Path) -> dict[str, Path]:
        """{split: path} of the splits that are there; FileNotFoundError if none is."""
        paths = {split: cls.text_paths(folder, stem) for split, stem in cls.SPLITS.items()}
        found = {split: first_existing(candidates) for split, candidates in paths.items()}
        if not any(found.values()):
            looked_for = ", ".join(str(path) for candidates in paths.values() for path in candidates)
            raise FileNotFoundError(f"data_dir: expected {cls.TITLE}, looked for {looked_for}. {cls.HOW_TO_GET}")
        return {split: path for split, path in found.items() if path}

    @classmethod
    def image_folder(cls, folder: Path, split: str) -> Path:
        return folder / "img_org" / cls.SPLITS[split]

    @classmethod
    def required(cls, paths: list[Path], what: str) -> Path:
        """The first of `paths` that is there; FileNotFoundError if none is."""
        path = first_existing(paths)
        if path is None:
            raise FileNotFoundError(f"expected {what} in {' or '.join(map(str, paths))}, found none. {cls.HOW_TO_GET}")
        return path

    @property
    def folder(self) -> Path:
        return self.data_folder(self.config.data_dir)

    @property
    def labels(self) -> list[str]:
        return self.info.features["pairs"].feature["relation"].names

    def new_info(
        self, labels: list[str], *, images: bool, object_scores: bool = False, homepage: str = ""
    ) -> datasets.DatasetInfo:
        info = datasets.DatasetInfo(
            description=f"{self.config.description}, read from files of the user's",
            homepage=homepage,
            features=post_features(labels, images=images, visual_feature_size=None, object_scores=object_scores),
        )
        selector = getattr(self.config, "selector", None)
        mark_recipe(info, selector=selector and recorded_selector(selector))
        return info

    def with_nodes(self, post: dict[str, Any]) -> dict[str, Any]:
        """The post with all its phrases and objects in each pair, the most relevant first, if the config's `selector`
        is to choose; what the data chose stays.
        """
        if self.config.selector is None:
            return post
        from datasets_scripts.nodes.selection import apply_selections

        return apply_selections(post, self._selector.select(post))[0]

    @functools.cached_property
    def _selector(self) -> Any:
        from datasets_scripts.nodes.selection import make_selector

        return make_selector(self.config.selector, **ALL)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        files = self.text_files(self.folder)
        for split in self.SPLITS.keys() - files.keys():
            paths = ", ".join(map(str, self.text_paths(self.folder, self.SPLITS[split])))
            logger.warning("%s: there is no %s split, looked for %s; it is left out", self.TITLE, split, paths)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "path": files[split]})
            for split in self.SPLITS
            if split in files
        ]


class TextMention(Record):
    """Words of the sentence."""

    name: str
    pos: Span


class BoxMention(Record):
    """An object of the image: (centre x, centre y, width, height), each divided by the image's width or height."""

    name: str
    box: Box


class TextFact(Record):
    """A line of MNRE: both mentions stand in the text."""

    token: list[str]
    h: TextMention
    t: TextMention
    img_id: str | int
    relation: str


def read_facts(path: Path, *, labels: list[str] | None, form: type[TextFact] = TextFact) -> Iterator[Fact]:
    """Yield (tokens, image_id, pair) for each line of the text file of a split, in file order.

    One warning counts the mentions whose name is not the text of their span; the span is what counts. A tail that is
    an object is `pair["object"]`, its name and box. `labels` are the relations there are; None accepts every one. A
    ValueError names file, line and field of a malformed line or an unknown relation, or a file without any line.
    """
    misnamed, place = [], None
    for place, record in read_literals(path, form):
        if labels is not None and record.relation not in labels:
            raise ValueError(
                f"{place}, field 'relation': expected one of {labels}, received {shown(record.relation)}. The label "
                "file, or config_name (mnre for version 2, mnre_v1 for version 1), is that of another data set"
            )
        spans: dict[str, list[int]] = {"h": [], "t": []}
        for field, mention in (("h", record.h), ("t", record.t)):
            if isinstance(mention, TextMention):
                start, end = spans[field] = list(mention.pos)
                if not 0 <= start < end <= len(record.token):
                    raise ValueError(
                        f"{place}, field '{field}.pos': expected 0 <= start < end <= {len(record.token)} tokens, "
                        f"received [{start}, {end})"
                    )
                misnamed += [place] if mention.name != " ".join(record.token[start:end]) else []
        pair = new_pair(spans["h"], spans["t"], record.relation)
        if isinstance(record.t, BoxMention):
            pair["object"] = (record.t.name, tuple(record.t.box))
        yield record.token, str(record.img_id), pair
    if place is None:
        raise no_records(path)
    if misnamed:
        logger.warning("%d mentions are not named as their span reads, the first: %s", len(misnamed), misnamed[0])
