"""From posts to arrays: the part of the processor that needs neither torch nor transformers.

Shapes are in modeling_vmhan.py's notation.
"""

import logging
import re
from itertools import accumulate
from typing import Any

import numpy as np

from .batching import EncodedPair, EncodedPost, given_incidence, visual_arrays
from .direction import inverse_id, is_reversed
from .encoder_rows import ImageText, PairSpans, SpecialTokens, encode_row, read_image_text, tokenized
from .hyperedges import check_ends, memberships_of, pair_nodes, read_memberships, read_post_hyperedges
from .mentions import IGNORED, add_tags, places_of_words
from .post_slots import PairSlots, graph_arrays, post_graph
from .posts import (
    check_shape,
    label_id,
    pad_nodes,
    pad_rows,
    post_name,
    select,
    sentence_of,
    token_span,
)
from .questions import post_with_pairs
from .recipe import apply_recipe
from .values import shown
from .windows import PAIRS_A_ROW, all_windows, choose_windows, with_fewer_pairs
from .words import Span, tokenize


__all__ = ["PostEncoder"]

logger = logging.getLogger(__name__)

GLUED = re.compile(r" (?=[.,:;!?'’)])|(?<=[#@(]) ")  # blanks between tokens that no sentence as written has


class PostEncoder:
    """Encodes posts by the fields of `VMHANProcessor`, which adds the constructor, pixels, and tensors in the place of
    arrays.

    `tokenizer` is called as `encoder_rows.tokenized` does, and has `pad_token_id`, `model_input_names` and
    `convert_ids_to_tokens`.
    """

    tokenizer: Any
    entity_representation: str
    image_text_visibility: str
    hypergraph_scope: str
    order_blind: bool
    mentions: bool
    mention_types: list[str]
    max_length: int
    max_image_text_length: int
    num_objects: int
    num_text_phrases: int
    num_image_phrases: int
    visual_feature_size: int
    trained_on: str | None
    recipe: dict[str, Any] | None
    _special: SpecialTokens
    _has_warned = False  # of sentences that are not as those of the training

    def encode(self, post: dict[str, Any], name: str, label2id: dict[str, int] | None = None) -> EncodedPost:
        """One post: tokens, positions, and features or pixels. `name` is how errors call it."""
        post = apply_recipe(post_with_pairs(post, name), self.recipe)
        encoded = self._encode_text(post, name)
        if self.visual_feature_size:
            self._read_regions(post, encoded)
        self._read_pairs(post, encoded, label2id)
        if self.mentions and label2id is not None:
            add_tags(encoded, post, self.mention_types, list(label2id))
        return encoded

    def encode_sentence(self, post: dict[str, Any], name: str) -> EncodedPost:
        """A post as `read_question` leaves it, whose pairs nobody knows yet: rows that hold all its words, for
        `VMHANForRelationClassification.find_mentions`, and its regions, which `with_pairs` goes on with.
        """
        encoded = self._encode_text({**post, "pairs": []}, name)
        if self.visual_feature_size:
            self._read_regions(post, encoded)
        return encoded

    def with_pairs(self, sentence: EncodedPost, post: dict[str, Any]) -> EncodedPost:
        """The encoded post whose pairs are known now; `sentence` is what `encode_sentence` made of it without them."""
        encoded = self._encode_text(post, sentence.name)
        encoded.image, encoded.objects = sentence.image, sentence.objects
        encoded.pixels, encoded.boxes = sentence.pixels, sentence.boxes
        self._read_pairs(post, encoded, None)
        return encoded

    def _read_pairs(self, post: dict[str, Any], encoded: EncodedPost, label2id: dict[str, int] | None) -> None:
        """What each pair chose among the nodes of its post, its hyperedges, and its label where they are known."""
        name, slots = encoded.name, []
        memberships = hyperedges = None
        if "hypergraph" in post:
            of_data = post["hypergraph"], len(encoded.pairs), f"{name}, hypergraph"
            memberships, hyperedges = read_memberships(*of_data), read_post_hyperedges(*of_data)
        for i, (pair, given) in enumerate(zip(encoded.pairs, post["pairs"], strict=True)):
            of_pair, tail, count = f"{name}, pair {i}", given.get("tail_object", -1), encoded.num_objects
            objects, phrases = [], []
            if self.visual_feature_size:
                pair.tail_object = tail
                if tail >= count:
                    raise ValueError(f"{of_pair}: tail_object must be one of {count} objects, received {shown(tail)}.")
                chosen = select(given, "objects", count, None, of_pair)
                objects = [i for i in chosen if i != tail or tail < 0]  # not its own tail
                pair.objects = objects[: self.num_objects]
            if self.num_image_phrases:
                phrases = select(given, "image_phrases", len(pair.image_phrases), None, of_pair)
                pair.chosen_phrases = phrases[: self.num_image_phrases]
            groups = pair_nodes(given, objects, phrases)
            if memberships is not None:
                check_ends(groups[0], memberships[i], f"{of_pair}, hypergraph")
            regions = 1 + self.num_objects if self.visual_feature_size else 0
            limits = (2, self.num_text_phrases, regions, self.num_image_phrases)
            held = [group[:limit] for group, limit in zip(groups, limits)]
            if self.hypergraph_scope == "post":
                cut = {node for group in groups for node in group}.difference(*held)
                held[0] = held[0][::-1] if pair.is_turned else held[0]
                slots.append(PairSlots(held, cut, pair.is_turned))
            elif memberships is not None:
                pair.membership = memberships_of(held, memberships[i], is_turned=pair.is_turned)
            if label2id is not None:
                pair.label = label_id(given.get("relation"), label2id, of_pair)
                pair.label = inverse_id(pair.label, label2id) if pair.is_turned else pair.label
        encoded.graph = post_graph(slots, name, hyperedges) if slots else None

    def arrays(self, posts: list[EncodedPost]) -> dict[str, Any]:
        """Encoded posts as one padded batch, what `VMHANProcessor.collate` makes the tensors of."""
        if not posts:
            raise ValueError("the batch is empty: give at least one post.")
        batch = self.row_arrays(posts)
        pairs = [pair for post in posts for pair in post.pairs]
        offsets = accumulate((len(post.rows) for post in posts), initial=0)  # rows before each post
        row_of = [offset + pair.row for post, offset in zip(posts, offsets) for pair in post.pairs]
        batch["pair_to_sequence"] = np.array(row_of, np.int64)
        batch["pair_to_example"] = np.array([i for i, post in enumerate(posts) for _ in post.pairs], np.int64)
        batch["entity_tokens"] = pad_nodes([pair.entities for pair in pairs])
        if self.num_text_phrases:
            batch["text_phrase_tokens"] = pad_nodes([pair.text_phrases for pair in pairs])
        if self.num_image_phrases:
            chosen = [[pair.image_phrases[i] if i >= 0 else [] for i in pair.chosen_phrases] for pair in pairs]
            batch["image_phrase_tokens"] = pad_nodes(chosen)
        if self.visual_feature_size:
            batch |= self.visual_inputs(posts)
            batch["pair_objects"] = pad_rows([pair.objects for pair in pairs], -1)
            batch["tail_object"] = np.array([pair.tail_object for pair in pairs], np.int64)
        if self.hypergraph_scope == "post":
            sees = bool(self.visual_feature_size)
            kinds = (True, bool(self.num_text_phrases), sees, sees, bool(self.num_image_phrases))
            batch |= graph_arrays([post.graph for post in posts], kinds)
        if any(pair.membership for pair in pairs):
            batch["incidence"] = given_incidence(pairs, has_regions=bool(self.visual_feature_size))
        if pairs[0].label is not None:
            batch["labels"] = np.array([pair.label for pair in pairs], np.int64)
        return batch

    def visual_inputs(self, posts: list[EncodedPost]) -> dict[str, Any]:
        """What the model reads of the images and objects of a batch."""
        return visual_arrays(posts, self.visual_feature_size)

    def row_arrays(self, posts: list[EncodedPost]) -> dict[str, Any]:
        """Their rows alone as one padded batch."""
        rows = [row for post in posts for row in post.rows]
        inputs = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0}
        if "token_type_ids" in self.tokenizer.model_input_names:
            inputs["token_type_ids"] = 0
        if self.entity_representation == "packed" or self.image_text_visibility == "isolated":
            inputs |= {"position_ids": 0, "marker_pair": 0}
        if "mention_tags" in rows[0]:
            inputs |= {"mention_tags": IGNORED, "mention_type_ids": IGNORED}
        return {key: pad_rows([row[key] for row in rows], padding) for key, padding in inputs.items()}

    def row_lengths(self, post: dict[str, Any]) -> list[int]:
        """Tokens of each encoder row that a post makes, markers and image text included, as they will be padded."""
        name = post_name(post, "the post")
        return [len(row["input_ids"]) for row in self._encode_text(post_with_pairs(post, name), name).rows]

    def pairs_in_reach(self, post: dict[str, Any], pairs: list[dict[str, Span]], name: str) -> list[dict[str, Span]]:
        """Those of the pairs of mentions that an encoder row can hold; in a long sentence others are too far apart."""
        text, unit_spans = sentence_of(self._as_trained(post), name)
        offsets, spans = tokenized(self.tokenizer, text)["offset_mapping"], {}
        if len(offsets) <= self._budget:
            return pairs
        for mention in {mention for pair in pairs for mention in pair.values()}:
            spans[mention] = token_span(mention, unit_spans, offsets, name)
        hulls = [[border for mention in pair.values() for border in spans[mention]] for pair in pairs]
        return [pair for pair, hull in zip(pairs, hulls) if max(hull) - min(hull) <= self._budget]

    @property
    def _budget(self) -> int:
        """How many tokens of the sentence a row holds."""
        markers = 4 if self.entity_representation == "marker" else 0
        return self.max_length - len(self._special.prefix) - len(self._special.suffix) - markers

    def _as_trained(self, post: dict[str, Any]) -> dict[str, Any]:
        """The post, its sentence in tokens alone where that is what the training had."""
        return {**post, "text": None} if self.trained_on == "tokens" and "tokens" in post else post

    def _encode_text(self, post: dict, name: str) -> EncodedPost:
        """The post's encoder rows, and its pairs in their order."""
        post = self._as_trained(post)
        text, unit_spans = sentence_of(post, name)
        encoded = tokenized(self.tokenizer, text)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        self._compare_with_training(text, ids, "text" if post.get("text") is not None else "tokens", name)
        named = [(pair, f"{name}, pair {i}") for i, pair in enumerate(post["pairs"])]
        found = [self._pair_spans(pair, unit_spans, offsets, of_pair) for pair, of_pair in named]
        special, is_marker, budget = self._special, self.entity_representation == "marker", self._budget
        try:
            windows = choose_windows(len(ids), [pair.hull for pair in found], budget, one_pair_each=is_marker)
            windows = windows if found else all_windows(len(ids), budget)
            if found and self.entity_representation == "packed":
                windows = with_fewer_pairs(windows, PAIRS_A_ROW)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        room = max(budget - len(ids) - len(special.middle), 0)  # the sentence comes first
        image_text = ImageText([], [])
        if self.num_image_phrases:
            image_text = read_image_text(self.tokenizer, post, min(room, self.max_image_text_length))
        is_isolated = self.image_text_visibility == "isolated"
        mode = {"entity_representation": self.entity_representation, "is_isolated": is_isolated}
        rows, pairs = [], {}
        for number, window in enumerate(windows):
            row, positions = encode_row(ids, image_text, window, [found[i] for i in window.pairs], special, **mode)
            rows.append(row)
            for pair, of_pair in zip(window.pairs, positions):
                pairs[pair] = EncodedPair(number, *of_pair, is_turned=found[pair].is_turned)
        encoded = EncodedPost(name, rows, [pairs[i] for i in range(len(found))])
        if self.mentions:
            encoded.words = tokenize(text)
            encoded.word_places = places_of_words(encoded.words, offsets, windows, len(special.prefix))
        return encoded

    def _pair_spans(self, pair: dict, unit_spans: list[Span], offsets: list[Span], name: str) -> PairSpans:
        """What a pair names, in the tokenizer's tokens."""
        is_object = "tail" not in pair
        if is_object and not self.visual_feature_size:
            raise ValueError(f"{name}: the tail is an object, but visual_feature_size is 0: use a visual model.")
        phrases = pair.get("text_phrases", [])[: self.num_text_phrases]
        head = token_span(pair["head"], unit_spans, offsets, f"{name}, head")
        tail = None if is_object else token_span(pair["tail"], unit_spans, offsets, f"{name}, tail")
        is_turned = self.order_blind and not is_object and is_reversed(pair)
        head, tail = (tail, head) if is_turned else (head, tail)
        phrases = [token_span(span, unit_spans, offsets, f"{name}, text phrase") for span in phrases]
        return PairSpans(head, tail, phrases, is_turned)

    def _compare_with_training(self, text: str, ids: list[int], kind: str, name: str) -> None:
        """Warn, once, of a sentence whose tokens would be others if it were given as those of the training were."""
        if self._has_warned or self.trained_on in (None, kind):
            return
        seen = GLUED.sub("", text) if kind == "tokens" else " ".join(text[a:b] for a, b in tokenize(text))
        others = tokenized(self.tokenizer, seen)["input_ids"]
        if ids == others:
            return
        self._has_warned = True
        at = next((i for i, pair in enumerate(zip(ids, others)) if pair[0] != pair[1]), min(len(ids), len(others)))
        here, there = (self.tokenizer.convert_ids_to_tokens(part[at : at + 3]) for part in (ids, others))
        differing = f"from token {at} on {here} in {text[:80]!r}, and {there} in {seen[:80]!r}, as training had it"
        rule = f"the model was trained on {self.trained_on}, received {kind}, which is tokenized otherwise"
        logger.warning(f"{name}: {rule}: {differing}. Give {self.trained_on}.")

    def _read_regions(self, post: dict, encoded: EncodedPost) -> None:
        """Features where there are any, else pixels where there is an image."""
        name, size = encoded.name, self.visual_feature_size
        image, objects = post.get("image_features"), post.get("object_features", ())
        if image is not None:
            encoded.image = check_shape(image, (size,), f"{name}: image_features")
        if len(objects):
            encoded.objects = check_shape(objects, (len(objects), size), f"{name}: object_features")
        if image is None and not len(objects) and "image" in post:
            self._read_pixels(post, encoded)

    def _read_pixels(self, post: dict, encoded: EncodedPost) -> None:
        wanted = "give image_features and object_features, or use the pipeline of the model itself"
        raise ValueError(f"{encoded.name}: there is nothing here to look at an image with: {wanted}.")
