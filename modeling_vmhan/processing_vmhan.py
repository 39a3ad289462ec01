"""VMHANProcessor: the one path from posts to model inputs. Shapes are in modeling_vmhan.py's notation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from .batching import EncodedPost, region_masks
from .configuration_vmhan import CHOICES, COUNTS
from .encoder_rows import SpecialTokens
from .labels import check_choice, check_number
from .post_encoding import PostEncoder
from .posts import post_name
from .regions import PixelTransform, region_inputs
from .text_encoding import num_positions
from .values import shown
from .vision import default_transform
from .windows import MARKERS


__all__ = ["SHARED_FIELDS", "VMHANCollator", "VMHANProcessor"]

# Fields that a processor and its model's config must agree on.
SHARED_FIELDS = ("entity_representation", "order_blind", "mentions", "mention_types", "vision_encoder", "recipe")
SHARED_FIELDS += ("image_text_visibility", "hypergraph_scope", *COUNTS)


class VMHANProcessor(PostEncoder, ProcessorMixin):
    """Turns posts into the inputs of `VMHANModel.forward`.

    Args:
        tokenizer: a fast tokenizer; the four entity markers are added to it. Resize the model's embeddings to
            `len(processor.tokenizer)` (`from_text_encoder(vocab_size=...)` does).
        max_length: tokens of a row, special tokens and the image text included. The four markers a pair that `packed`
            appends are not counted: they take no position of their own.
        max_image_text_length: tokens the image text may take of them, as far as the sentence leaves room.
        trained_on: "text" if the sentences of the training were text, "tokens" if they were tokens alone; None where
            it is not known. Where a sentence of the other kind is tokenized otherwise, the first one is warned of.
        Others: as in `VMHANConfig`, and equal to the model's; `for_config` copies them.

    Example:
        processor = VMHANProcessor.for_config(model.config, AutoTokenizer.from_pretrained("bert-base-uncased"))
        inputs = processor({"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]})
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        entity_representation: str = "marker",
        image_text_visibility: str = "joint",
        hypergraph_scope: str = "pair",
        order_blind: bool = False,
        mentions: bool = False,
        mention_types: list[str] | tuple[str, ...] = (),
        max_length: int = 128,
        max_image_text_length: int = 64,
        num_objects: int = 3,
        num_text_phrases: int = 3,
        num_image_phrases: int = 3,
        visual_feature_size: int = 4096,
        vision_encoder: str | None = None,
        image_transform: dict[str, Any] | None = None,
        trained_on: str | None = None,
        recipe: dict[str, Any] | None = None,
        **kwargs,
    ):
        fields = {name: value for name, value in locals().items() if name in (*SHARED_FIELDS, "image_transform")}
        if tokenizer is None or not tokenizer.is_fast:
            received = type(tokenizer).__name__
            raise ValueError(f"tokenizer must be a fast one (use_fast=True), for its offsets, received {received}.")
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
        self._special = SpecialTokens.of(tokenizer)
        for name, value in fields.items():
            setattr(self, name, check_number(name, value, whole=True, low=0) if name in COUNTS else value)
        self.mention_types = list(mention_types)
        for name in CHOICES.keys() & fields.keys():
            check_choice(name, fields[name], CHOICES[name])
        self._transform = PixelTransform.from_dict(image_transform)
        self.max_length = check_number("max_length", max_length, whole=True, low=1)
        check_choice("trained_on", trained_on, (None, "text", "tokens"))
        self.trained_on = trained_on
        self.max_image_text_length = check_number("max_image_text_length", max_image_text_length, whole=True, low=0)
        super().__init__(tokenizer=tokenizer, **kwargs)

    @classmethod
    def for_config(cls, config, tokenizer: PreTrainedTokenizerBase, **fields) -> "VMHANProcessor":
        """The processor of a `VMHANConfig`; a `max_length` beyond its text encoder's positions is a ValueError."""
        fields = {name: getattr(config, name) for name in SHARED_FIELDS} | fields
        if config.vision_encoder is not None:
            transform = config.image_transform or default_transform(config.vision_config).to_dict()
            fields.setdefault("image_transform", transform)
        processor = cls(tokenizer=tokenizer, **fields)
        positions = num_positions(config.text_config)
        if positions is not None and processor.max_length > positions:
            received = f"{config.text_config.model_type}, received {processor.max_length}"
            raise ValueError(f"max_length must be at most {positions}, the positions of this {received}.")
        return processor

    def __call__(self, posts: dict | list[dict], label2id: dict[str, int] | None = None) -> BatchFeature:
        """Encode a batch of posts: `encode` each, then `collate` them.

        Args:
            posts: one post or a list; docs/posts.md describes every key. Keys of a post:
                text or tokens: the sentence. Spans count characters of `text`, tokens of `tokens`. With both they
                    count tokens, which must stand in the text, and the text is what the tokenizer reads.
                pairs: list of {head, tail}, each a string that stands once in the sentence, or a span (start, end),
                    or the tail a box; `tail_object`: index into `boxes` of a tail that is an image object (then no
                    `tail`); `text_phrases`: strings or spans; `objects`, `image_phrases`: indices of the ones most
                    relevant to the pair, best first (missing: `recipe` chooses; []: none; -1: a node taken away, whose
                    place stays empty); `relation`: name or id, needed with `label2id`. A post of one pair may have
                    these keys itself.
                image_features (V,) and object_features (O, V), of which one may be missing; or image (PIL, path,
                    bytes or array, see `load_image`) and boxes (O, 4), xyxy in pixels of the upright image.
                caption and image_phrases: text about the image. Phrases are found in the caption; those that are
                    not in it are put after it; without phrases the caption is one.
                id: named in errors.
            label2id: of the model's config; with it `labels` (P,) are returned.

        Returns:
            the keyword arguments of `VMHANModel.forward` (and `labels`). What a post lacks or has wrong is a
            ValueError, whose message names the post, the value and the fix.
        """
        try:
            posts = [posts] if isinstance(posts, (Mapping, str)) else list(posts)
        except TypeError:
            raise ValueError(f"posts must be a dict, or a list of dicts, received {shown(posts)}.") from None
        named = [(post, post_name(post, f"post {i}")) for i, post in enumerate(posts)]
        return self.collate([self.encode(post, name, label2id) for post, name in named])

    def collate(self, posts: list[EncodedPost]) -> BatchFeature:
        """Encoded posts as one padded batch, the keyword arguments of `VMHANModel.forward`."""
        return _as_tensors(self.arrays(posts))

    def collate_rows(self, posts: list[EncodedPost]) -> BatchFeature:
        """Their rows alone as one padded batch: the keyword arguments of `VMHANModel.encode_text`, and tags."""
        return _as_tensors(self.row_arrays(posts))

    def visual_inputs(self, posts: list[EncodedPost]) -> dict[str, Any]:
        """Features or pixels once per post: (B, ...), padded to the most objects of a post."""
        seen = [post for post in posts if post.pixels is not None]
        if not seen:
            return super().visual_inputs(posts)
        if any(of is not None for post in posts for of in (post.image, post.objects)):
            which = f"{seen[0].name} has an image but no image_features, and others of the batch have features"
            raise ValueError(f"{which}: give features for all, of one encoder, or pixels for all.")
        # (B, 1 + O, 3, S, S), or (B, 1, 3, S, S) for an encoder that takes boxes
        inputs = {"pixel_values": _stacked([post.pixels for post in posts], 1, *seen[0].pixels.shape[1:])}
        if self.vision_encoder == "vgg16_roi_align":
            inputs["boxes"] = _stacked([post.boxes for post in posts], 0, 4)  # (B, O, 4)
        return {**region_masks(posts), **inputs}

    def _read_pixels(self, post: dict, encoded: EncodedPost) -> None:
        boxes, takes_boxes = post.get("boxes", []), self.vision_encoder == "vgg16_roi_align"
        try:
            inputs = region_inputs(post["image"], boxes, transform=self._transform, takes_boxes=takes_boxes)
        except (OSError, ValueError) as error:
            raise ValueError(f"{encoded.name}: {error}") from error
        encoded.pixels, encoded.boxes = inputs[0], inputs[1][1:]  # the boxes of the objects


def _as_tensors(batch: dict[str, Any]) -> BatchFeature:
    return BatchFeature({name: torch.as_tensor(value) for name, value in batch.items()})


def _stacked(tensors: list[Tensor | None], *shape: int) -> Tensor:
    """(B, longest, ...) in float32, filled up with zeros; zeros of `shape` where there is none."""
    return pad_sequence([torch.zeros(shape) if x is None else x.float() for x in tensors], batch_first=True)


@dataclass
class VMHANCollator:
    """The processor as a `collate_fn`; label2id is of the model's config, None for posts without relations."""

    processor: VMHANProcessor
    label2id: dict[str, int] | None = None

    def __call__(self, posts: list[dict[str, Any]]) -> BatchFeature:
        return self.processor(posts, label2id=self.label2id)
