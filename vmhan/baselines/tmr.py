"""TMR without its divergence estimator (Zheng et al. 2023, "Rethinking Multimodal Entity and Relation Extraction from
a Translation Point of View", ACL, https://aclanthology.org/2023.acl-long.376; code https://github.com/thecharm/TMR).

Shapes: B examples, P pairs, T tokens, K objects, M text phrases, G queries, 4 positions of a region, C channels of the
pyramid, S side in pixels, D hidden size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import BatchFeature

from modeling_vmhan.images import load_image
from modeling_vmhan.layers import masked_softmax
from modeling_vmhan.posts import post_name
from modeling_vmhan.processing_vmhan import VMHANProcessor
from modeling_vmhan.text_encoding import pool_tokens
from vmhan.baselines.configuration import BaselineConfig
from vmhan.baselines.pyramid import POSITIONS, PyramidBaseline


__all__ = ["TMR", "BackTranslation", "TMRProcessor"]


class TMRProcessor(VMHANProcessor):
    """Also reads the image that was generated from each post's text, `generated_image`, whole."""

    _auto_class = None  # a baseline's folder carries no code

    def __call__(self, posts: dict | list[dict], label2id: dict[str, int] | None = None) -> BatchFeature:
        """As of `VMHANProcessor`, and generated_pixels (B, 3, S, S); ValueError for a post without such an image."""
        posts = [posts] if isinstance(posts, Mapping) else list(posts)
        for post in posts:
            if post.get("generated_image") is None:
                raise ValueError(
                    f"{post_name(post, 'the post')}: tmr reads an image generated from the text, received none. Pass "
                    "--generated_images."
                )
        own = [{name: value for name, value in post.items() if name != "generated_image"} for post in posts]
        batch = super().__call__(own, label2id)
        batch["generated_pixels"] = torch.stack([self._transform(load_image(p["generated_image"])) for p in posts])
        return batch


class BackTranslation(nn.Module):
    """What visual queries find in the text: sum over them of tanh(softmax(W_q v (W_k x)^T / sqrt(D)) W_v x)."""

    def __init__(self, *, hidden_size: int):
        super().__init__()
        self.query, self.value = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)  # it would add the same to all scores of a query

    def forward(self, visual: Tensor, present: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """visual (P, G, D), present (P, G) bool, text (P, n, D), text_mask (P, n) bool -> (P, D)."""
        scores = self.query(visual) @ self.key(text).transpose(1, 2) / visual.shape[-1] ** 0.5  # (P, G, n)
        found = (masked_softmax(scores, text_mask.unsqueeze(1)) @ self.value(text)).tanh()  # (P, G, D)
        return found.masked_fill(~present.unsqueeze(-1), 0).sum(dim=1)


class TMR(PyramidBaseline):
    """TMR: logits = W W_f [h; t; sum of phrases; c_g generated; c_i image + c_o objects] + b of the markers' states.

    generated and image are the `BackTranslation` of the positions of the generated and of the given image to the
    words, objects that of the pair's objects to its mentions and text phrases.

    Departures, beside those of `PyramidBaseline`: the weights c are sigmoids that this model learns from the first
    token's state and the means of both images and of the objects. The published ones are scores of text and image by
    its divergence estimator, a ViLT trained on a corpus of its own. The published phrases have mentions and entity
    types in them, and leak; these are the data set's, read in the sentence and not on their own. Objects are read in
    the given image alone, not in the generated one, too, and each is the mean of its positions, not their sum. Four
    stages of a frozen ResNet give 2 x 2 positions, where the last one of a trained one gives 7 x 7. A tail that is an
    object is the mean of its projected positions.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        size = config.text_config.hidden_size
        self.visual_projection = nn.Linear(self.pyramid.feature_size, size)
        self.of_words, self.of_phrases = BackTranslation(hidden_size=size), BackTranslation(hidden_size=size)
        self.correlation = nn.Linear(4 * size, 3)
        self.fusion = nn.Linear(5 * size, 2 * size)
        self.add_classifier(2 * size)

    def visual_states(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of the generated image (P, 4, D), of the image, K objects and tail (P, 2 + K, 4, D), and which of
        the latter are there (P, 2 + K).
        """
        pyramids, of_pair, present = self.region_pyramids(inputs)
        with torch.no_grad():
            generated = self.pyramid(inputs["generated_pixels"].to(pyramids.dtype))  # (B, 4, C)
        states = self.visual_projection(self.normalised(torch.cat([pyramids, generated])))
        regions, generated = states.split([len(pyramids), len(generated)])
        return generated[inputs["pair_to_example"]], regions[of_pair], present

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        generated, regions, present = self.visual_states(inputs)
        image, objects, tail = regions[:, 0], regions[:, 1:-1].mean(dim=2), regions[:, -1].mean(dim=1)
        states, rows = self.encode_text(inputs), inputs["pair_to_sequence"]
        words, mask = states[rows], inputs["attention_mask"][rows].bool()  # (P, T, D), (P, T)
        entities = self.entity_states(states, inputs, tail)  # (P, 2 D)
        phrases, is_phrase = pool_tokens(states, rows, inputs["text_phrase_tokens"])  # (P, M, D), (P, M)
        named = torch.cat([entities.unflatten(-1, (2, -1)), phrases], dim=1)  # (P, 2 + M, D)
        is_named = nn.functional.pad(is_phrase, (2, 0), value=True)
        everywhere = torch.ones_like(mask[:, :1]).expand(-1, POSITIONS)  # (P, 4)
        drawn = self.of_words(generated, everywhere, words, mask)
        seen = self.of_words(image, everywhere & present[:, :1], words, mask)
        of_objects = self.of_phrases(objects, present[:, 1:-1], named, is_named)
        means = generated.mean(dim=1), image.mean(dim=1), masked_mean(objects, present[:, 1:-1])
        scores = self.correlation(torch.cat([words[:, 0], *means], dim=-1)).sigmoid().unsqueeze(-1)  # (P, 3, 1)
        parts = [scores[:, 0] * drawn, scores[:, 1] * seen + scores[:, 2] * of_objects]
        return self.fusion(torch.cat([entities, phrases.sum(dim=1), *parts], dim=-1))  # (P, 2 D)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(P, n, D), (P, n) bool -> (P, D), zeros where nothing is."""
    weights = mask.unsqueeze(-1).to(values.dtype)
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
