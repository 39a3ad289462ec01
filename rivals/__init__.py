"""The systems that VM-HAN is compared with, trained by the same script on the same data: `run_mmre.py --model NAME`.

Each is built from its published equations, which its docstring cites, and shares `VMHANProcessor` and the Trainer.
"""

import difflib
import os
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from rivals.base import RivalForRelationClassification
from rivals.configuration import RivalConfig, WordConvolutionConfig
from rivals.convolution import PiecewiseWordConvolution, WordConvolution
from rivals.scene_graph import SceneGraph, SceneGraphAttention
from rivals.text import BareEncoder, EntityMarkers


__all__ = [
    "RIVALS",
    "Rival",
    "RivalConfig",
    "RivalForRelationClassification",
    "WordConvolutionConfig",
    "build_rival",
    "get_rival",
    "load_rival",
]


@dataclass(frozen=True)
class Rival:
    """A row of Table 1 that is built here.

    Attributes:
        title: its name in the table. source: citation with a URL.
        inputs: what it reads, of "text", "text_phrases", "image", "objects", "image_phrases"; what it does not read
            the processor does not make.
        model: its class; None for a preset.
        entity_representation: what the processor makes of the mentions.
        preset: the row of VM-HAN's Table 2 that is this rival (it is that model, not another one).
    """

    title: str
    source: str
    inputs: tuple[str, ...]
    model: type[RivalForRelationClassification] | None = None
    entity_representation: str = "marker"
    preset: str | None = None

    @property
    def reads_words(self) -> bool:
        """Whether it has a vocabulary of words (and may get word vectors) instead of a text encoder."""
        return self.model is not None and self.model.reads_words


_TEXT, _OBJECTS = ("text",), ("text", "objects")
_NODES = ("text", "text_phrases", "image", "objects", "image_phrases")
_SCENE_GRAPH = "Zheng et al. 2021, ICME, https://doi.org/10.1109/ICME51207.2021.9428274"

RIVALS: dict[str, Rival] = {
    "cnn": Rival("CNN", "Zeng et al. 2014, https://aclanthology.org/C14-1220", _TEXT, WordConvolution, "span"),
    "pcnn": Rival(
        "PCNN", "Zeng et al. 2015, https://aclanthology.org/D15-1203", _TEXT, PiecewiseWordConvolution, "span"
    ),
    "bert": Rival("BERT", "Devlin et al. 2019, https://arxiv.org/abs/1810.04805", _TEXT, BareEncoder, "span"),
    "mtb": Rival("MTB", "Soares et al. 2019, https://arxiv.org/abs/1906.03158", _TEXT, EntityMarkers),
    # over VM-HAN's nodes and with its layers (modeling_vmhan/baselines.py): rows of Table 2, not models of their own
    "gcn": Rival("GCN", "Kipf and Welling 2017, https://arxiv.org/abs/1609.02907", _NODES, preset="gcn"),
    "gat": Rival("GAT", "Velickovic et al. 2018, https://arxiv.org/abs/1710.10903", _NODES, preset="gat"),
    "hgnn": Rival("HGNN", "Feng et al. 2019, https://arxiv.org/abs/1809.09401", _NODES, preset="hgnn"),
    "bert_sg": Rival("BERT+SG", _SCENE_GRAPH, _OBJECTS, SceneGraph),
    "bert_sg_att": Rival("BERT+SG+Att", _SCENE_GRAPH, _OBJECTS, SceneGraphAttention),
}


def get_rival(name: str) -> Rival:
    """The rival of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in RIVALS:
        near = difflib.get_close_matches(name, ["vmhan", *RIVALS], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"model must be 'vmhan' or one of {list(RIVALS)}, received {name!r}.{hint}")
    return RIVALS[name]


def build_rival(
    config: RivalConfig,
    *,
    text_encoder: PreTrainedModel | None = None,
    vocab_size: int | None = None,
    word_vectors: dict[int, Tensor] | None = None,
) -> RivalForRelationClassification:
    """A new model of `config.rival`, in evaluation mode; what is not pretrained has fresh weights.

    Args:
        text_encoder: the loaded encoder whose configuration is `config.text_config`; None keeps fresh weights.
        vocab_size: `len(processor.tokenizer)`, to which the token embeddings are resized.
        word_vectors: of rivals that read words: token id -> (d_w,), pretrained.

    Raises:
        ValueError: no such rival, or the name of one that is a preset of VM-HAN.
    """
    rival = get_rival(config.rival)
    if rival.model is None:
        raise ValueError(
            f"{config.rival!r} is a preset of VM-HAN: build it with VMHANConfig.from_preset({rival.preset!r}, ...)."
        )
    model = rival.model(config)
    if text_encoder is not None:
        model.use_text_encoder(text_encoder)
    if vocab_size is not None and vocab_size != config.text_config.vocab_size:
        model.resize_token_embeddings(vocab_size)
    if word_vectors is not None:
        model.use_word_vectors(word_vectors)
    return model.eval()


def load_rival(folder: str | os.PathLike) -> RivalForRelationClassification:
    """The rival that `save_pretrained` (or a run of run_mmre.py) left in `folder`.

    Raises:
        ValueError: its config names no rival that has a class. OSError: there is no model.
    """
    config = RivalConfig.from_pretrained(folder)
    model = get_rival(config.rival).model
    if model is None:
        raise ValueError(f"{config.rival!r} is a preset of VM-HAN: load {folder} with VMHANForRelationClassification.")
    return model.from_pretrained(folder)
