"""What benchmarks/speed.py compares: models around one text encoder, each with the same posts as batches.

All models share the encoder's weights and its optimizer's moments, so that many fit in memory; what is timed is the
same as if each had its own. S encoder rows, T tokens, P pairs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.sentences import with_pixels
from modeling_vmhan import PRESETS, VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.windows import MARKERS
from vmhan.baselines import BASELINES, BaselineConfig, WordConvolutionConfig, build_baseline
from vmhan.baselines.pyramid import FEATURE_SIZES, pyramid_transform
from vmhan.baselines.words import count_words, word_tokenizer
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


__all__ = [
    "BARE",
    "ENCODERS",
    "Bench",
    "Competitor",
    "bare_competitor",
    "load_encoder",
    "preset_competitor",
    "baseline_competitor",
]

# Shapes of the encoders with random weights; "offline" is all-MiniLM-L6-v2 with its own.
ENCODERS: dict[str, dict[str, int] | None] = {
    "offline": None,
    "bert-base-random": {},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
BARE = "mtb"  # the baseline that is nothing but the encoder and one linear layer over two of its states
MAX_LENGTH = 128
RIVAL_LENGTH = {"hvpnet": 80}  # to which its public code pads
LEARNING_RATE = 2e-5

Post = dict[str, Any]
Batch = dict[str, Tensor]


def load_encoder(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An encoder of `ENCODERS` with the entity markers in its vocabulary, and the offline encoder's tokenizer."""
    folder = resolve_text_encoder(OFFLINE_ENCODER)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    shape = ENCODERS[name]
    if shape is None:
        encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    else:
        torch.manual_seed(0)
        encoder = AutoModel.from_config(BertConfig(vocab_size=len(tokenizer), **shape), add_pooling_layer=False)
    encoder.resize_token_embeddings(len(tokenizer))
    return encoder, tokenizer


@dataclass
class Competitor:
    """A model, and the same posts as every other competitor as batches of its own making.

    Attributes:
        optimizers: of its own weights and, where it uses the shared encoder, of that.
    """

    model: nn.Module
    processor: VMHANProcessor
    batches: list[Batch]
    optimizers: list[torch.optim.Optimizer]

    @property
    def work(self) -> dict[str, int]:
        """Of one pass over the batches: pairs answered, tokens encoded, places they take with the padding."""
        masks = [batch["attention_mask"] for batch in self.batches]
        pairs = sum(len(batch["labels"]) for batch in self.batches)
        return {
            "pairs": pairs,
            "tokens": int(sum(mask.sum() for mask in masks)),
            "places": sum(map(Tensor.numel, masks)),
        }

    def turns(self, *, training: bool, bf16: bool) -> list[Callable[[], None]]:
        """A batch each: forward, backward and optimizer step, or the forward pass alone."""
        return [partial(self._train if training else self._infer, batch, bf16) for batch in self.batches]

    def _train(self, batch: Batch, bf16: bool) -> None:
        self._forward(batch, bf16).loss.backward()
        self.update()

    def update(self) -> None:
        """AdamW, and the gradients are gone."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def _infer(self, batch: Batch, bf16: bool) -> None:
        self._forward({name: value for name, value in batch.items() if name != "labels"}, bf16)

    def _forward(self, batch: Batch, bf16: bool) -> Any:
        with torch.autocast(batch["input_ids"].device.type, torch.bfloat16, enabled=bf16):
            return self.model(**batch)


@dataclass
class Bench:
    """What the competitors share.

    Args:
        posts: with visual features. relations: their labels. batch_size: posts a batch.
        pyramid: of hvpnet, as run_mmre.py's flag; pyramid_size_px: side of its crops.
    """

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    posts: list[Post]
    relations: list[str]
    batch_size: int
    device: str = "cpu"
    pyramid: str = "resnet50:random:0"
    pyramid_size_px: int = 224
    encoder_optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        self.encoder = self.encoder.to(self.device)
        self.encoder_optimizer = make_optimizer(self.encoder.parameters())

    @property
    def feature_size(self) -> int:
        return len(self.posts[0]["image_features"])

    @property
    def labels(self) -> dict[int, str]:
        return dict(enumerate(self.relations))

    def compete(
        self,
        model: nn.Module,
        processor: VMHANProcessor,
        posts: Sequence[Post],
        *,
        pad_to: int | None = None,
        by_length: bool = False,
    ) -> Competitor:
        """The model with these posts in batches, padded to the longest row or to `pad_to`.

        Args:
            by_length: batches of posts whose longest rows are of like length, as group_by_length makes them of a whole
                data set.
        """
        if by_length:
            posts = sorted(posts, key=lambda post: max(processor.row_lengths(post)))
        model.to(self.device)
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        own = [parameter for parameter in trained if id(parameter) not in shared]
        optimizers = [make_optimizer(own)]
        if len(own) < len(trained):
            optimizers.append(self.encoder_optimizer)
        batches = []
        for start in range(0, len(posts), self.batch_size):
            batch = processor(list(posts[start : start + self.batch_size]), label2id=model.config.label2id)
            batches.append({k: v.to(self.device) for k, v in padded(batch, pad_to).items()})
        return Competitor(model, processor, batches, optimizers)


def make_optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The Trainer's, `adamw_torch_fused`: one pass over weights, gradients and moments."""
    return torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)


def padded(batch: Batch, length: int | None) -> Batch:
    """Rows filled up to `length` tokens that are masked; None leaves them as they are."""
    batch = dict(batch)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        if length is not None and name in batch:
            batch[name] = nn.functional.pad(batch[name], (0, length - batch[name].shape[1]))
    return batch


def preset_competitor(
    bench: Bench,
    representation: str = "packed",
    preset: str = "full",
    posts: Sequence[Post] | None = None,
    by_length: bool = False,
) -> Competitor:
    """VM-HAN, a row of Table 2; `by_length` as in `Bench.compete`."""
    fields = {"entity_representation": representation, "visual_feature_size": bench.feature_size}
    config = VMHANConfig.from_preset(preset, text_config=bench.encoder.config, id2label=bench.labels, **fields)
    model = VMHANForRelationClassification.from_text_encoder(bench.encoder, config)
    processor = VMHANProcessor.for_config(config, bench.tokenizer, max_length=MAX_LENGTH)
    return bench.compete(model, processor, bench.posts if posts is None else posts, by_length=by_length)


def bare_competitor(bench: Bench, pad_to: int | None = None, by_length: bool = False) -> Competitor:
    """The bare encoder and one linear layer over the same rows as `marker`, one pair each."""
    return baseline_competitor(bench, BARE, pad_to=pad_to, by_length=by_length)


def baseline_competitor(bench: Bench, name: str, pad_to: int | None = None, by_length: bool = False) -> Competitor:
    """A baseline; hvpnet on pixels and padded to 80, as its public code does.

    Raises:
        ValueError: it cannot be built around this encoder.
    """
    baseline, posts = BASELINES[name], bench.posts
    if baseline.preset in PRESETS:
        return preset_competitor(bench, preset=baseline.preset, by_length=by_length)
    fields: dict[str, Any] = {"baseline": name, "entity_representation": baseline.entity_representation}
    pixels, encoder, tokenizer = {}, bench.encoder, bench.tokenizer
    if baseline.reads_words:
        encoder, tokenizer = None, word_tokenizer(sorted(count_words(post["tokens"] for post in posts)))
    if "pixels" in baseline.inputs:
        network, _, weights = bench.pyramid.partition(":")
        fields |= {"pyramid": network, "visual_feature_size": FEATURE_SIZES[network]}
        pixels = {"image_transform": pyramid_transform(bench.pyramid_size_px).to_dict()}
        posts = [with_pixels(post, 2 * bench.pyramid_size_px) for post in posts]
    elif {"image", "objects"} & set(baseline.inputs):
        fields["visual_feature_size"] = bench.feature_size
    fields |= {f"num_{kind}": 3 for kind in ("objects", "text_phrases", "image_phrases") if kind in baseline.inputs}
    text = WordConvolutionConfig(vocab_size=len(tokenizer)) if encoder is None else encoder.config
    config = BaselineConfig(text_config=text, id2label=bench.labels, **fields)
    length = RIVAL_LENGTH.get(name)
    processor = VMHANProcessor.for_config(config, tokenizer, max_length=length or MAX_LENGTH, **pixels)
    model = build_baseline(config, text_encoder=encoder, pyramid_weights=weights if pixels else None)
    return bench.compete(model, processor, posts, pad_to=length or pad_to, by_length=by_length)
