"""What is compared as a model, not as a pipeline: models around one text encoder, each with the same posts as batches.

All models share the encoder's weights and its optimizer's moments, so that many fit in memory; what is timed is the
same as if each had its own.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.harness.posts import Post, with_pairs
from benchmarks.harness.timing import wait_for
from modeling_vmhan import VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.windows import MARKERS
from vmhan.baselines import BASELINES, BaselineConfig, build_baseline
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


__all__ = [
    "ENCODERS", "STEP_PARTS", "Bench", "Competitor", "bare_competitor", "encode_sentences", "load_encoder",
    "preset_competitor", "step_in_parts", "with_so_many_pairs",
]  # fmt: skip

# Shapes of the encoders with random weights; "offline" is all-MiniLM-L6-v2 with its own.
ENCODERS: dict[str, dict[str, int] | None] = {
    "offline": None,
    "bert-base-random": {},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
BARE = "mtb"  # the baseline that is nothing but the encoder and one linear layer over two of its states
MAX_LENGTH = 128
STEP_PARTS = ("encoder forward", "head forward", "head backward", "encoder backward", "optimizer")
LEARNING_RATE = 2e-5

Batch = dict[str, Tensor]


def load_encoder(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder of `ENCODERS` with the entity markers in its vocabulary, and the offline encoder's tokenizer."""
    folder, shape = resolve_text_encoder(OFFLINE_ENCODER), ENCODERS[name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    if shape is None:
        encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    else:
        torch.manual_seed(0)
        encoder = AutoModel.from_config(BertConfig(vocab_size=len(tokenizer), **shape), add_pooling_layer=False)
    encoder.resize_token_embeddings(len(tokenizer))
    return encoder, tokenizer


def encode_sentences(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, posts: Iterable[Post]) -> Tensor:
    """States (B, T, D) of the posts' sentences alone, padded to the longest; on the CPU, wherever the encoder is."""
    texts = [" ".join(post["tokens"]) for post in posts]
    return encoder(**tokenizer(texts, padding=True, return_tensors="pt").to(encoder.device))[0].cpu()


@dataclass
class Competitor:
    """A model, the same posts as every other competitor as batches, and the optimizers of the weights that it uses."""

    model: nn.Module
    processor: VMHANProcessor
    batches: list[Batch]
    optimizers: list[torch.optim.Optimizer]

    @property
    def work(self) -> dict[str, int]:
        """Count pairs answered, tokens encoded, and the same with the padding, in one pass over the batches."""
        masks = [batch["attention_mask"] for batch in self.batches]
        return {
            "pairs": sum(len(batch["labels"]) for batch in self.batches),
            "tokens": int(sum(mask.sum() for mask in masks)),
            "with padding": sum(map(Tensor.numel, masks)),
        }

    def turns(self, *, training: bool, bf16: bool = False) -> list[Callable[[], None]]:
        """Return a turn for each batch: forward, backward and optimizer step, or the forward pass alone."""
        return [partial(self._train if training else self._infer, batch, bf16) for batch in self.batches]

    def update(self) -> None:
        """Take a step of AdamW, after which there are no gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _train(self, batch: Batch, bf16: bool) -> None:
        self._forward(batch, bf16).loss.backward()
        self.update()

    @torch.inference_mode()
    def _infer(self, batch: Batch, bf16: bool) -> None:
        self._forward({name: value for name, value in batch.items() if name != "labels"}, bf16)

    def _forward(self, batch: Batch, bf16: bool) -> Any:
        with torch.autocast(batch["input_ids"].device.type, torch.bfloat16, enabled=bf16):
            return self.model(**batch)


@dataclass
class Bench:
    """What the competitors share; `posts` have visual features, and `batch_size` counts posts."""

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    posts: list[Post]
    relations: list[str]
    batch_size: int
    device: str = "cpu"
    encoder_optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        self.encoder = self.encoder.to(self.device)
        self.encoder_optimizer = make_optimizer(self.encoder.parameters())

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of every model's configuration."""
        labels = dict(enumerate(self.relations))
        return {"id2label": labels, "visual_feature_size": len(self.posts[0]["image_features"])}

    def compete(
        self, model: nn.Module, processor: VMHANProcessor, posts: Sequence[Post], *, pad_to=None, by_length=False
    ) -> Competitor:
        """The model with these posts in batches: rows have `pad_to` tokens, or as many as the longest of the batch;
        `by_length` puts posts of like length together, as group_by_length does.
        """
        if by_length:
            posts = sorted(posts, key=lambda post: max(processor.row_lengths(post)))
        model.to(self.device)
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        own = [parameter for parameter in model.parameters() if id(parameter) not in shared]
        uses_encoder = len(own) < len(list(model.parameters()))
        optimizers = [make_optimizer(p for p in own if p.requires_grad)]
        batches = []
        for start in range(0, len(posts), self.batch_size):
            batch = dict(processor(list(posts[start : start + self.batch_size]), label2id=model.config.label2id))
            for name in ("input_ids", "attention_mask", "token_type_ids"):
                if pad_to is not None and name in batch:
                    batch[name] = nn.functional.pad(batch[name], (0, pad_to - batch[name].shape[1]))
            batches.append({name: value.to(self.device) for name, value in batch.items()})
        return Competitor(model, processor, batches, optimizers + [self.encoder_optimizer] * uses_encoder)


def make_optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the Trainer's optimizer, `adamw_torch_fused`, which passes once over weights, gradients and moments."""
    return torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)


def preset_competitor(
    bench: Bench, representation="packed", preset="full", posts: Sequence[Post] | None = None, **batching
) -> Competitor:
    """Build VM-HAN, or another row of Table 2; `Bench.compete` describes `batching`."""
    fields = {"entity_representation": representation, **bench.fields}
    config = VMHANConfig.from_preset(preset, text_config=bench.encoder.config, **fields)
    model = VMHANForRelationClassification.from_text_encoder(bench.encoder, config)
    processor = VMHANProcessor.for_config(config, bench.tokenizer, max_length=MAX_LENGTH)
    return bench.compete(model, processor, bench.posts if posts is None else posts, **batching)


def with_so_many_pairs(
    bench: Bench, count: int, representations: Sequence[str], *, pairs_per_batch: int, batches: int = 1
) -> dict[str, Competitor]:
    """Build VM-HANs over sentences with `count` pairs each, in batches of about `pairs_per_batch` pairs."""
    bench = copy.copy(bench)  # with the same encoder and optimizer
    bench.batch_size = max(1, pairs_per_batch // count)
    posts = [with_pairs(post, count) for post in bench.posts[: bench.batch_size * batches]]
    return {name: preset_competitor(bench, name, posts=posts) for name in representations}


def bare_competitor(bench: Bench, **batching) -> Competitor:
    """Build the bare encoder and one linear layer over the states of the two markers, with a pair in each row."""
    fields = {"id2label": bench.fields["id2label"], "entity_representation": BASELINES[BARE].entity_representation}
    config = BaselineConfig(text_config=bench.encoder.config, baseline=BARE, **fields)
    processor = VMHANProcessor.for_config(config, bench.tokenizer, max_length=MAX_LENGTH)
    model = build_baseline(config, text_encoder=bench.encoder)
    return bench.compete(model, processor, bench.posts, **batching)


def step_in_parts(
    competitor: Competitor, batch: Batch, encoder: nn.Module, now: Callable[[], float], device: str = "cpu"
) -> dict[str, float]:
    """One training step, and the seconds of each of `STEP_PARTS` by the clock `now`. The step is cut at the text
    encoder's states: the head's backward pass ends there and the encoder's begins there, which changes no gradient.
    """
    marks: list[float] = []
    states: list[Tensor] = []  # as the encoder made them, and as the head reads them

    def mark(*_: Any) -> None:
        wait_for(device)
        marks.append(now())

    def cut(module: nn.Module, inputs: Any, output: Any) -> Any:
        mark()
        states.extend([output.last_hidden_state, output.last_hidden_state.detach().requires_grad_()])
        output.last_hidden_state = states[1]
        return output

    hooks = [encoder.register_forward_pre_hook(mark), encoder.register_forward_hook(cut)]
    try:
        mark()
        loss = competitor.model(**batch).loss
        mark()
    finally:
        for hook in hooks:
            hook.remove()
    loss.backward()
    mark()
    states[0].backward(states[1].grad)
    mark()
    competitor.update()
    mark()
    start, encoder_starts, encoder_ends, forward, head_backward, backward, done = marks
    encoding = encoder_ends - encoder_starts
    seconds = encoding, forward - start - encoding, head_backward - forward, backward - head_backward, done - backward
    return dict(zip(STEP_PARTS, seconds, strict=True))
