"""MOREformer (He et al. 2023, "MORE: A Multimodal Object-Entity Relation Extraction Dataset with a Benchmark
Evaluation", ACM MM, https://arxiv.org/abs/2312.09753; code https://github.com/NJUNLP/MORE).

Shapes: B examples, O objects of an example, P pairs, K objects a pair, T tokens, F values of an object, D hidden size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature

from modeling_vmhan.images import image_size
from modeling_vmhan.posts import post_name
from modeling_vmhan.processing_vmhan import VMHANProcessor
from modeling_vmhan.text_encoding import pool_tokens
from vmhan.baselines.base import VisualBaseline
from vmhan.baselines.bert_layers import rows_of_pairs
from vmhan.baselines.configuration import BaselineConfig
from vmhan.baselines.mkgformer import MEncoder


__all__ = ["MOREformer", "MOREformerProcessor", "object_positions"]

POSITION_SIZE = 5  # centre x and y, width, height, area


class MOREformerProcessor(VMHANProcessor):
    """Also gives each object's position and depth map, and puts the captions of tails behind the sentence.

    Captions are `object_labels`. Posts need `image` and `boxes` beside features; `object_depths`, of `vmhan prepare
    --depth`, may be left out.
    """

    _auto_class = None  # a baseline's folder carries no code

    @classmethod
    def for_config(cls, config, tokenizer, **fields) -> "MOREformerProcessor":
        """As of `VMHANProcessor`, with one image phrase a pair: the caption of its tail, which no column counts as."""
        return super().for_config(config, tokenizer, num_image_phrases=1, **fields)

    def __call__(self, posts: dict | list[dict], label2id: dict[str, int] | None = None) -> BatchFeature:
        """As of `VMHANProcessor`, and object_positions (B, O, 5) and object_depths (B, O, F), F = 0 where there are
        none. ValueError for objects without an image, or not a depth map for each where some have one.
        """
        posts = [posts] if isinstance(posts, Mapping) else list(posts)
        batch = super().__call__([_with_captions(post) for post in posts], label2id)
        batch["object_positions"] = pad_sequence([object_positions(post) for post in posts], batch_first=True)
        batch["object_depths"] = _object_depths(posts)
        return batch

    def row_lengths(self, post: dict[str, Any]) -> list[int]:
        return super().row_lengths(_with_captions(post))


def _with_captions(post: dict[str, Any]) -> dict[str, Any]:
    """The post whose image phrases are the captions of those objects that are a tail, each the phrase of its pairs."""
    tails = {pair.get("tail_object", -1) for pair in post["pairs"]}
    labels = enumerate(post.get("object_labels") or [])
    captions = [label.strip() if label and i in tails else "" for i, label in labels]
    said = {i for i, caption in enumerate(captions) if caption}
    chosen = [pair["tail_object"] if pair.get("tail_object") in said else -1 for pair in post["pairs"]]
    pairs = [{**pair, "image_phrases": [i]} for pair, i in zip(post["pairs"], chosen, strict=True)]
    return {**post, "caption": None, "image_phrases": captions, "pairs": pairs}


def object_positions(post: dict[str, Any]) -> Tensor:
    """Centre x and y, width, height and area of each box, (O, 5), relative to the image; ValueError without one."""
    boxes = post.get("boxes") or []
    if not boxes:
        return torch.zeros(0, POSITION_SIZE)
    if post.get("image") is None:
        raise ValueError(
            f"{post_name(post, 'the post')}: moreformer reads where the objects stand in the image, received boxes "
            "and no image. Keep the images: `vmhan prepare --embed_images true`."
        )
    x0, y0, x1, y1 = (torch.tensor(boxes) / torch.tensor(image_size(post["image"]) * 2)).unbind(dim=1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, (x1 - x0) * (y1 - y0)], dim=1)


def _object_depths(posts: list[dict[str, Any]]) -> Tensor:
    depths = [torch.as_tensor(post.get("object_depths") or [], dtype=torch.float32) for post in posts]
    counts = [len(post.get("boxes") or []) for post in posts]
    size = max((of_post.shape[1] for of_post in depths if len(of_post)), default=0)
    for post, of_post, count in zip(posts, depths, counts, strict=True):
        if size and len(of_post) != count:
            raise ValueError(
                f"{post_name(post, 'the post')}: object_depths must have a depth map for each of {count} boxes, "
                f"received {len(of_post)}. `vmhan prepare --depth` makes them."
            )
    return pad_sequence([d.reshape(count, size) for d, count in zip(depths, counts, strict=True)], batch_first=True)


class MOREformer(VisualBaseline):
    """MOREformer: logits = W [h; t] + b with t = W_m [v; c] + b_m over `MEncoder`, h the head's marker state.

    Attributes: the caption of a tail that is an object is read behind the sentence, and c is its state. Depth: in the
    layers that do not fuse each object has two tokens, of its features and of its depth map. Position: where fusion
    begins, the two become their mean, to which a projection of the position is added. v is the tail's visual state.

    Departures: an object is one token of the features that all baselines share, and one of a depth map of 8 x 8, where
    the published ones are four patches each, of 64 x 64 pixels, in the layers of CLIP's ViT-B/32. The objects are K of
    the pair and the tail, not all of the image. All captions of a post's tails stand in its rows, and c is the mean
    state of the pair's one, where the published row has that one alone, and its marker's state. A class token stands
    for the objects of a post without any. For tails in the text, which the published code does not have, c is the
    tail's marker state and v the class token's.
    """

    reaches_into_layers = True
    reads_image_size = True  # so that the Trainer keeps the images, whose sizes positions are relative to

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        size = config.text_config.hidden_size
        self.class_token = nn.Embedding(1, size)
        self.token_norm, self.position_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.depth_projection = nn.Linear(config.depth_size, size) if config.depth_size else None
        self.position_projection = nn.Linear(POSITION_SIZE, size)
        self.position_dropout = nn.Dropout(0.1)
        self.m_encoder = MEncoder.for_text(config.text_config)
        self.tail_fusion = nn.Linear(2 * size, size)  # W_m
        self.add_classifier(2 * size)

    def visual_tokens(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Class token, K objects and tail, and the depths of these 1 + K if it reads any: (P, G, D), and which are
        there, (P, G).
        """
        regions, present = self.regions(inputs)  # (P, 2 + K, D), the image first
        objects, present = regions[:, 1:], present[:, 1:]
        first = self.class_token.weight.expand(len(objects), 1, -1)
        tokens, mask = [first, objects], [present.new_ones(len(present), 1), present]
        if self.depth_projection is not None:
            depths, size = inputs["object_depths"], self.depth_projection.in_features
            if depths.shape[1] and depths.shape[2] != size:
                raise ValueError(
                    f"moreformer was trained with depth maps of {size} values, received posts with "
                    f"{depths.shape[2]}: `vmhan prepare --depth` makes them."
                )
            depths = of_pairs(depths.reshape(len(depths), -1, size).to(first.dtype), inputs)  # (P, K + 1, F)
            tokens, mask = [*tokens, self.depth_projection(depths)], [*mask, present]
        return self.token_norm(torch.cat(tokens, dim=1)), torch.cat(mask, dim=1)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        positions = of_pairs(inputs["object_positions"], inputs).to(self.class_token.weight.dtype)  # (P, K + 1, 5)

        def with_positions(visual: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            first, objects = visual.split([1, visual.shape[1] - 1], dim=1)
            parts = objects.unflatten(1, (-1, positions.shape[1]))  # (P, 1 or 2, K + 1, D)
            visual = torch.cat([first, parts.mean(dim=1) + self.position_projection(positions)], dim=1)
            return self.position_dropout(self.position_norm(visual)), mask[:, : visual.shape[1]]

        inputs = rows_of_pairs(inputs)
        tokens = self.visual_tokens(inputs)
        states, visual = self.m_encoder(self.text_encoder, inputs, *tokens, before_fusion=with_positions)
        head, tail = self.entity_states(states, inputs).chunk(2, dim=-1)
        caption = pool_tokens(states, inputs["pair_to_sequence"], inputs["image_phrase_tokens"])[0][:, 0]  # (P, D)
        is_object = inputs["tail_object"].unsqueeze(1) >= 0  # (P, 1)
        seen = torch.where(is_object, visual[:, -1], visual[:, 0])
        tail = self.tail_fusion(torch.cat([seen, torch.where(is_object, caption, tail)], dim=-1))
        return torch.cat([head, tail], dim=-1)  # (P, 2 D)


def of_pairs(values: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """What each pair's K objects and its tail have of `values` (B, O, F): (P, K + 1, F), zeros for a missing one."""
    columns = torch.cat([inputs["pair_objects"], inputs["tail_object"].unsqueeze(1)], dim=1) + 1  # (P, K + 1)
    return nn.functional.pad(values, (0, 0, 1, 0))[inputs["pair_to_example"].unsqueeze(1), columns]
