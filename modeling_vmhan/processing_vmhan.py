"""VMHANProcessor: the one path from posts to model inputs (training, evaluation, prediction, README).

A post is a dict: a sentence, its entity pairs, and optionally its image. `VMHANProcessor.__call__` lists its keys.
Shapes are those of modeling_vmhan.py's notation.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from .configuration_vmhan import (
    ENTITY_REPRESENTATIONS,
    VISION_ENCODERS,
    _check_choice,
    _check_image_transform,
    _check_number,
)
from .posts import (
    as_list,
    check_post,
    feature_tensor,
    find_words,
    has_rows,
    hull,
    image_phrases_of,
    label_id,
    pad_nodes,
    pad_rows,
    post_name,
    row_positions,
    select,
    sentence_of,
    token_span,
)
from .regions import PixelTransform, region_inputs
from .text_encoding import num_positions
from .vision import default_transform
from .windows import MARKERS, Span, Window, choose_windows, insert_markers, tokens_of_span


__all__ = ["SHARED_FIELDS", "VMHANProcessor"]

PHRASE_SEPARATOR = " ; "

# Fields that a processor and its model's config must agree on.
SHARED_FIELDS = (
    "entity_representation",
    "num_objects",
    "num_text_phrases",
    "num_image_phrases",
    "visual_feature_size",
    "vision_encoder",
)


class VMHANProcessor(ProcessorMixin):
    """Turns posts into the inputs of `VMHANModel.forward`.

    Args:
        tokenizer: a fast tokenizer; the four entity markers are added to it. Resize the model's embeddings to
            `len(processor.tokenizer)` (`from_text_encoder(vocab_size=...)` does).
        entity_representation, num_objects, num_text_phrases, num_image_phrases, visual_feature_size, vision_encoder,
            image_transform: as in `VMHANConfig`, and equal to the model's; `for_config` copies them. The last two are
            for posts whose pixels the model encodes itself.
        max_length: tokens of a row, special tokens and the image text included. The four markers a pair that `packed`
            appends are not counted: they take no position of their own.
        max_image_text_length: tokens the image text may take of them, as far as the sentence leaves room.

    Raises:
        ValueError: a slow tokenizer, or a field that breaks its rule.

    Example:
        processor = VMHANProcessor.for_config(model.config, AutoTokenizer.from_pretrained("bert-base-uncased"))
        inputs = processor({"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]})
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        entity_representation: str = "marker",
        max_length: int = 128,
        max_image_text_length: int = 64,
        num_objects: int = 3,
        num_text_phrases: int = 3,
        num_image_phrases: int = 3,
        visual_feature_size: int = 4096,
        vision_encoder: str | None = None,
        image_transform: dict[str, Any] | None = None,
        **kwargs,
    ):
        if tokenizer is None or not tokenizer.is_fast:
            raise ValueError(
                f"tokenizer must be a fast tokenizer (character offsets are needed), received "
                f"{type(tokenizer).__name__}. Load it with AutoTokenizer.from_pretrained(..., use_fast=True)."
            )
        _check_choice("entity_representation", entity_representation, ENTITY_REPRESENTATIONS)
        _check_choice("vision_encoder", vision_encoder, VISION_ENCODERS)
        _check_image_transform(image_transform)
        self._transform = PixelTransform.from_dict(image_transform)
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
        self.entity_representation = entity_representation
        self.max_length = _check_number("max_length", max_length, whole=True, low=1)
        self.max_image_text_length = _check_number("max_image_text_length", max_image_text_length, whole=True, low=0)
        self.num_objects = _check_number("num_objects", num_objects, whole=True, low=0)
        self.num_text_phrases = _check_number("num_text_phrases", num_text_phrases, whole=True, low=0)
        self.num_image_phrases = _check_number("num_image_phrases", num_image_phrases, whole=True, low=0)
        self.visual_feature_size = _check_number("visual_feature_size", visual_feature_size, whole=True, low=0)
        self.vision_encoder = vision_encoder
        self.image_transform = image_transform
        super().__init__(tokenizer=tokenizer, **kwargs)

    @classmethod
    def for_config(cls, config, tokenizer: PreTrainedTokenizerBase, **fields) -> "VMHANProcessor":
        """The processor whose node counts, entity representation and pixels are those of a `VMHANConfig`.

        Raises:
            ValueError: `max_length` is beyond the positions of the config's text encoder (`num_positions`).
        """
        fields = {name: getattr(config, name) for name in SHARED_FIELDS} | fields
        if config.vision_encoder is not None:
            transform = config.image_transform or default_transform(config.vision_config).to_dict()
            fields.setdefault("image_transform", transform)
        processor = cls(tokenizer=tokenizer, **fields)
        positions = num_positions(config.text_config)
        if positions is not None and processor.max_length > positions:
            raise ValueError(
                f"max_length must be at most {positions}, the positions of this {config.text_config.model_type}, "
                f"received {processor.max_length}."
            )
        return processor

    @property
    def model_input_names(self) -> list[str]:
        return [*self.tokenizer.model_input_names, "entity_tokens", "pair_to_sequence", "pair_to_example"]

    def __call__(
        self, posts: dict[str, Any] | list[dict[str, Any]], label2id: dict[str, int] | None = None, **kwargs
    ) -> BatchFeature:
        """Encode a batch of posts.

        Args:
            posts: one post or a list. Keys of a post:
                text or tokens: the sentence. Spans count characters of `text`, tokens of `tokens`.
                pairs: list of {head: (start, end), tail: (start, end)}; `tail_object`: index into `boxes` of a tail
                    that is an image object (then no `tail`); `text_phrases`: spans; `objects`, `image_phrases`:
                    indices of the ones most relevant to the pair, best first (missing or empty: the first ones; -1:
                    a node taken away, whose place stays empty);
                    `relation`: name or id, needed with `label2id`.
                image_features (V,) and object_features (O, V), of which one may be missing; or image (PIL, path or
                    bytes, see `load_image`) and boxes (O, 4), xyxy in pixels of the upright image.
                caption and image_phrases: text about the image. Phrases are found in the caption; those that are
                    not in it stand behind it; without phrases the caption is one.
                id: named in errors.
            label2id: of the model's config; with it `labels` (P,) are returned.

        Returns:
            BatchFeature of tensors, the keyword arguments of `VMHANModel.forward` (and `labels`).

        Raises:
            ValueError: no post, no pair, a span outside the sentence, mentions too far apart, an unknown relation or
                key, features of the wrong size. The message names the post, the value and the fix.
        """
        if kwargs:
            raise ValueError(f"unknown arguments {sorted(kwargs)}: pass posts and label2id, see the class's example.")
        posts = as_list(posts)
        if not posts:
            raise ValueError("the batch is empty: give at least one post.")
        rows: list[dict[str, list]] = []
        pairs: list[dict[str, Any]] = []
        for example, post in enumerate(posts):
            name = post_name(post, example)
            check_post(post, name)
            self._encode_post(post, example, name, rows, pairs)
        batch = self._pad_rows(rows)
        batch.update(self._pair_tensors(pairs))
        if self.visual_feature_size:
            batch.update(self._visual_tensors(posts, pairs))
        if label2id is not None:
            batch["labels"] = torch.tensor([label_id(pair, label2id) for pair in pairs])
        return BatchFeature(batch)

    def row_lengths(self, post: dict[str, Any]) -> list[int]:
        """Tokens of each encoder row that a post makes, markers and image text included, as they will be padded."""
        rows: list[dict[str, list]] = []
        name = post_name(post, 0)
        check_post(post, name)
        self._encode_post(post, 0, name, rows, [])
        return [len(row["input_ids"]) for row in rows]

    # text ------------------------------------------------------------------------------------------------------------

    def _encode_post(self, post: dict, example: int, name: str, rows: list, pairs: list) -> None:
        """Append the post's encoder rows and pairs, in the order of `post["pairs"]`."""
        text, unit_spans = sentence_of(post)
        encoded = self._tokenized(text)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        found = [
            self._pair_spans(pair, unit_spans, offsets, f"{name}, pair {i}") for i, pair in enumerate(post["pairs"])
        ]
        prefix, middle, suffix = self._special_tokens()
        is_marker = self.entity_representation == "marker"
        budget = self.max_length - len(prefix) - len(suffix) - (4 if is_marker else 0)
        hulls = [hull(spans) for spans in found]
        try:
            windows = choose_windows(len(ids), hulls, budget, one_pair_each=is_marker)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        room = max(budget - len(ids) - len(middle), 0)  # the sentence comes first
        image_ids, phrase_spans = self._image_text(post, min(room, self.max_image_text_length))
        encoded_pairs: dict[int, dict] = {}
        for window in windows:
            row, positions = self._row(ids, window, found, image_ids, phrase_spans)
            for pair, tokens in zip(window.pairs, positions, strict=True):
                encoded_pairs[pair] = {"row": len(rows), "example": example, "name": f"{name}, pair {pair}", **tokens}
            rows.append(row)
        for i, pair in enumerate(post["pairs"]):
            pairs.append({**encoded_pairs[i], "post": post, "pair": pair})

    def _pair_spans(self, pair: dict, unit_spans: list[Span], offsets: list[Span], name: str) -> dict[str, Any]:
        """Token spans of a pair's head, tail (None for an object) and text phrases."""
        mentions = {"head": pair.get("head"), "tail": pair.get("tail")}
        if pair.get("tail_object", -1) is not None and pair.get("tail_object", -1) >= 0:
            if not self.visual_feature_size:
                raise ValueError(f"{name}: the tail is an object, but visual_feature_size is 0: use a visual model.")
            del mentions["tail"]
        spans: dict[str, Any] = {"tail": None}
        for role, span in mentions.items():
            spans[role] = token_span(span, unit_spans, offsets, f"{name}, {role}")
        phrases = pair["text_phrases"][: self.num_text_phrases] if has_rows(pair.get("text_phrases")) else []
        spans["text_phrases"] = [token_span(span, unit_spans, offsets, f"{name}, text phrase") for span in phrases]
        return spans

    def _image_text(self, post: dict, limit: int) -> tuple[list[int], list[Span | None]]:
        """Token ids of the second segment, at most `limit`, and each phrase's token span in it.

        Departure from "the text encoder over the phrase": a phrase found in a caption is read where it stands, so
        that its state knows the words around it. Phrases behind the cut, or across it, are None, unless one is
        the whole text; so are blank ones.
        """
        phrases = image_phrases_of(post)
        if self.num_image_phrases == 0 or not phrases:
            return [], []
        text, spans = (post.get("caption") or "").strip(), []
        for phrase in phrases:
            if phrase and find_words(phrase, text) is None:
                text += (PHRASE_SEPARATOR if text else "") + phrase
            spans.append(find_words(phrase, text) if phrase else (0, 0))
        encoded = self._tokenized(text)
        ids, offsets = encoded["input_ids"][:limit], encoded["offset_mapping"]
        if spans == [(0, len(text))]:  # the whole text is cut with it
            return ids, [(0, len(ids)) if ids else None]
        found = [tokens_of_span(span, offsets) for span in spans]
        return ids, [span if span is not None and span[1] <= len(ids) else None for span in found]

    def _tokenized(self, text: str) -> dict[str, Any]:
        """Token ids and offsets of words of the post, where "[SEP]" or "[E1]" are letters like any others."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)

    def _special_tokens(self) -> tuple[list[int], list[int], list[int]]:
        """What the tokenizer puts before the first, between, and after the second segment."""
        if not hasattr(self, "_special_token_cache"):
            first, second = (self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("a", "b"))
            ids = self.tokenizer("a", "b")["input_ids"]
            start = next(i for i in range(len(ids)) if ids[i : i + len(first)] == first)
            rest = ids[start + len(first) :]
            middle = next(i for i in range(len(rest)) if rest[i : i + len(second)] == second)
            self._special_token_cache = (ids[:start], rest[:middle], rest[middle + len(second) :])
        return self._special_token_cache

    def _row(
        self, ids: list[int], window: Window, found: list[dict], image_ids: list[int], phrase_spans: list[Span | None]
    ) -> tuple[dict[str, list[int]], list[dict[str, list]]]:
        """One encoder row, and for each pair of the window the positions of its text nodes' tokens."""
        prefix, middle, suffix = self._special_tokens()
        sentence = ids[window.start : window.end]
        place = list(range(len(sentence)))  # sentence token -> its index among the row's sentence tokens
        opened: list[int] = []
        if self.entity_representation == "marker":
            mentions = self._mentions(found[window.pairs[0]], window.start)
            sentence, place, opened = insert_markers(sentence, mentions)
        first = [*prefix, *sentence]
        second = [*middle, *image_ids] if image_ids else []
        row = {
            "input_ids": [*first, *second, *suffix],
            # the separator between them belongs to the first segment, as in BERT
            "token_type_ids": [0] * (len(first) + (1 if second else len(suffix)))
            + [1] * (max(len(second) - 1, 0) + (len(suffix) if second else 0)),
        }
        row["position_ids"] = list(range(len(row["input_ids"])))
        row["marker_pair"] = [0] * len(row["input_ids"])
        origin = len(first) + len(middle)
        phrases = [[] if span is None else [origin + token for token in range(*span)] for span in phrase_spans]
        tokens = []
        for order, pair in enumerate(window.pairs):
            spans = found[pair]
            if self.entity_representation == "span":
                entities = [row_positions(spans[role], window, place, len(prefix)) for role in ("head", "tail")]
            elif self.entity_representation == "marker":
                entities = [[len(prefix) + position] for position in opened]
            else:
                entities = self._append_markers(row, spans, window.start - len(prefix), order)
            entities += [[]] * (2 - len(entities))
            text_phrases = [row_positions(span, window, place, len(prefix)) for span in spans["text_phrases"]]
            tokens.append({"entities": entities, "text_phrases": text_phrases, "image_phrases": phrases})
        return row, tokens

    def _mentions(self, spans: dict, origin: int) -> list[tuple[Span, int, int]]:
        """A pair's textual mentions with their marker ids, in tokens counted from `origin`."""
        markers = self.tokenizer.convert_tokens_to_ids(list(MARKERS))
        both = [(spans["head"], markers[0], markers[1]), (spans["tail"], markers[2], markers[3])]
        return [((span[0] - origin, span[1] - origin), *ids) for span, *ids in both if span is not None]

    def _append_markers(self, row: dict[str, list[int]], spans: dict, origin: int, order: int) -> list[list[int]]:
        """Put a pair's markers behind a packed row, at the positions of the mentions' borders."""
        entities = []
        for (start, end), *marker_ids in self._mentions(spans, origin):
            entities.append([len(row["input_ids"])])
            row["input_ids"] += marker_ids
            row["token_type_ids"] += [0, 0]
            row["position_ids"] += [start, end - 1]
            row["marker_pair"] += [order + 1, order + 1]
        return entities

    def _pad_rows(self, rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        batch = {
            "input_ids": pad_rows([row["input_ids"] for row in rows], self.tokenizer.pad_token_id),
            "attention_mask": pad_rows([[1] * len(row["input_ids"]) for row in rows], 0),
        }
        if "token_type_ids" in self.tokenizer.model_input_names:
            batch["token_type_ids"] = pad_rows([row["token_type_ids"] for row in rows], 0)
        if self.entity_representation == "packed":
            batch["position_ids"] = pad_rows([row["position_ids"] for row in rows], 0)
            batch["marker_pair"] = pad_rows([row["marker_pair"] for row in rows], 0)
        return batch

    # pairs -----------------------------------------------------------------------------------------------------------

    def _pair_tensors(self, pairs: list[dict[str, Any]]) -> dict[str, Tensor]:
        tensors = {
            "pair_to_sequence": torch.tensor([pair["row"] for pair in pairs]),
            "pair_to_example": torch.tensor([pair["example"] for pair in pairs]),
            "entity_tokens": pad_nodes([pair["entities"] for pair in pairs]),
        }
        if self.num_text_phrases:
            tensors["text_phrase_tokens"] = pad_nodes([pair["text_phrases"] for pair in pairs])
        if self.num_image_phrases:
            chosen = []
            for pair in pairs:
                wanted = select(pair, "image_phrases", len(pair["image_phrases"]), self.num_image_phrases)
                chosen.append([pair["image_phrases"][i] if i >= 0 else [] for i in wanted])
            tensors["image_phrase_tokens"] = pad_nodes(chosen)
        return tensors

    def _visual_tensors(self, posts: list[dict], pairs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Features or pixels once per post, and each pair's choice among the objects."""
        has_image = [post.get("image_features") is not None for post in posts]
        has_features = [given or has_rows(post.get("object_features")) for post, given in zip(posts, has_image)]
        has_pixels = [post.get("image") is not None and not given for post, given in zip(posts, has_features)]
        if any(has_features) and any(has_pixels):
            index = has_pixels.index(True)
            raise ValueError(
                f"post {posts[index].get('id', index)!r} has an image but no image_features, and others of the batch "
                "have features: extract its features with the same encoder, or give pixels for all."
            )
        if any(has_pixels):
            tensors, counts = self._pixel_tensors(posts)
        else:
            tensors, counts = self._feature_tensors(posts)
        tensors["image_mask"] = torch.tensor([a or b for a, b in zip(has_image, has_pixels)])
        tensors["object_mask"] = torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)  # (B, O)
        objects, tails = [], []
        for pair in pairs:
            count, tail = counts[pair["example"]], pair["pair"].get("tail_object", -1)
            tail = -1 if tail is None else tail
            if not -1 <= tail < count:
                raise ValueError(
                    f"{pair['name']}: tail_object must be an index into the post's {count} objects, or -1 for a tail "
                    f"in the sentence, received {tail}."
                )
            tails.append(tail)
            objects.append(select(pair, "objects", count, self.num_objects))
        tensors["pair_objects"] = pad_rows(objects, -1)
        tensors["tail_object"] = torch.tensor(tails)
        return tensors

    def _feature_tensors(self, posts: list[dict]) -> tuple[dict[str, Tensor], list[int]]:
        """image_features (B, V) and object_features (B, O, V); in half precision where all of the posts' are."""
        size, none = self.visual_feature_size, torch.zeros(0, self.visual_feature_size)
        images, regions = [], []
        for i, post in enumerate(posts):
            name = f"post {post.get('id', i)!r}"
            image, objects = post.get("image_features"), post.get("object_features")
            images.append(None if image is None else feature_tensor(image, (size,), f"{name}: image_features"))
            shape = (len(objects), size) if has_rows(objects) else None
            regions.append(none if shape is None else feature_tensor(objects, shape, f"{name}: object_features"))
        types = {given.dtype for given in (*images, *regions) if given is not None and given is not none}
        dtype = torch.float16 if types == {torch.float16} else torch.float32
        counts = [len(region) for region in regions]
        objects = torch.nn.utils.rnn.pad_sequence([region.to(dtype) for region in regions], batch_first=True)
        image = torch.zeros(len(posts), size, dtype=dtype)
        for i, given in enumerate(images):
            if given is not None:
                image[i] = given
        return {"image_features": image, "object_features": objects}, counts  # (B, V), (B, O, V)

    def _pixel_tensors(self, posts: list[dict]) -> tuple[dict[str, Tensor], list[int]]:
        """pixel_values (B, 1 + O, 3, S, S), or (B, 1, 3, S, S) and boxes (B, O, 4) for "vgg16_roi_align"."""
        takes_boxes = self.vision_encoder == "vgg16_roi_align"
        side = self._transform.size
        pixels, boxes = [], []
        for i, post in enumerate(posts):
            inputs = torch.zeros(1, 3, side, side), torch.zeros(1, 4)
            if post.get("image") is not None:
                try:
                    given = [] if post.get("boxes") is None else post["boxes"]
                    inputs = region_inputs(post["image"], given, transform=self._transform, takes_boxes=takes_boxes)
                except (OSError, ValueError) as error:
                    raise ValueError(f"post {post.get('id', i)!r}: {error}") from error
            pixels.append(inputs[0])
            boxes.append(inputs[1][1:])  # of the objects
        tensors = {"pixel_values": torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True)}
        if takes_boxes:
            tensors["boxes"] = torch.nn.utils.rnn.pad_sequence(boxes, batch_first=True)
        return tensors, [len(of_image) for of_image in boxes]
