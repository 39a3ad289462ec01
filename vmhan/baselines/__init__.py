"""The systems that VM-HAN is compared with, trained by the same script on the same data: `run_mmre.py --model NAME`.

Each is built from its published equations, which its docstring cites, and shares `VMHANProcessor` and the Trainer.
"""

import os
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from datasets_scripts.commands import nearest
from modeling_vmhan.processing_vmhan import VMHANProcessor
from vmhan.baselines.base import BaselineForRelationClassification
from vmhan.baselines.bert import BareEncoder, EntityMarkers, SceneGraph, SceneGraphAttention
from vmhan.baselines.configuration import BaselineConfig, WordConvolutionConfig
from vmhan.baselines.convolution import PiecewiseWordConvolution, WordConvolution
from vmhan.baselines.mega import Mega
from vmhan.baselines.mkgformer import MKGformer
from vmhan.baselines.moreformer import MOREformer, MOREformerProcessor
from vmhan.baselines.tmr import TMR, TMRProcessor
from vmhan.baselines.visual_levels import HVFormer
from vmhan.baselines.visual_prefix import HVPNeT
from vmhan.baselines.visualbert import VisualBert


__all__ = ["BASELINES", "Baseline", "BaselineConfig", "BaselineForRelationClassification", "WordConvolutionConfig"]
__all__ += ["build_baseline", "get_baseline", "load_baseline"]


@dataclass(frozen=True)
class Baseline:
    """A row of Table 1 that is built here.

    `inputs` are some of "text", "text_phrases", "image", "objects", "image_phrases", "depth" and "generated_image";
    `processor` makes nothing else. With "pixels" the baseline reads image and objects as such, not as features.
    """

    title: str  # its name in the table
    source: str  # citation with a URL
    inputs: tuple[str, ...]
    model: type[BaselineForRelationClassification] | None = None  # None for a preset
    entity_representation: str = "marker"
    processor: type[VMHANProcessor] = VMHANProcessor
    preset: str | None = None  # the row of VM-HAN's Table 2 that is this baseline

    @property
    def reads_words(self) -> bool:
        """Whether it has a vocabulary of words (and may get word vectors) instead of a text encoder."""
        return self.model is not None and self.model.reads_words


_TEXT, _OBJECTS, _REGIONS = ("text",), ("text", "objects"), ("text", "image", "objects")
_NODES = ("text", "text_phrases", "image", "objects", "image_phrases")
_SG = "Zheng et al. 2021, ICME, https://doi.org/10.1109/ICME51207.2021.9428274"
_PCNN = "Zeng et al. 2015, https://aclanthology.org/D15-1203"
_MEGA = "Zheng et al. 2021, https://github.com/thecharm/Mega"
_MORE = "He et al. 2023, https://arxiv.org/abs/2312.09753"
_HV = "Liu et al. 2024, https://doi.org/10.1145/3589334.3645603"
_TMR = "Zheng et al. 2023, https://aclanthology.org/2023.acl-long.376"
_DRAWN = (*_REGIONS, "text_phrases", "generated_image")
_DETAILS = ("text", "objects", "depth")

BASELINES: dict[str, Baseline] = {
    "cnn": Baseline("CNN", "Zeng et al. 2014, https://aclanthology.org/C14-1220", _TEXT, WordConvolution, "span"),
    "pcnn": Baseline("PCNN", _PCNN, _TEXT, PiecewiseWordConvolution, "span"),
    "bert": Baseline("BERT", "Devlin et al. 2019, https://arxiv.org/abs/1810.04805", _TEXT, BareEncoder, "span"),
    "mtb": Baseline("MTB", "Soares et al. 2019, https://arxiv.org/abs/1906.03158", _TEXT, EntityMarkers),
    # over VM-HAN's nodes and with its layers (modeling_vmhan/graph_layers.py): rows of Table 2
    "gcn": Baseline("GCN", "Kipf and Welling 2017, https://arxiv.org/abs/1609.02907", _NODES, preset="gcn"),
    "gat": Baseline("GAT", "Velickovic et al. 2018, https://arxiv.org/abs/1710.10903", _NODES, preset="gat"),
    "hgnn": Baseline("HGNN", "Feng et al. 2019, https://arxiv.org/abs/1809.09401", _NODES, preset="hgnn"),
    "bert_sg": Baseline("BERT+SG", _SG, _OBJECTS, SceneGraph),
    "bert_sg_att": Baseline("BERT+SG+Att", _SG, _OBJECTS, SceneGraphAttention),
    "visualbert": Baseline("VisualBERT", "Li et al. 2019, https://arxiv.org/abs/1908.03557", _REGIONS, VisualBert),
    "mega": Baseline("MEGA-style", _MEGA, (*_REGIONS, "text_phrases"), Mega),
    "hvpnet": Baseline("HVPNeT", "Chen et al. 2022c, https://arxiv.org/abs/2205.03521", (*_REGIONS, "pixels"), HVPNeT),
    "mkgformer": Baseline("MKGformer", "Chen et al. 2022b, https://arxiv.org/abs/2205.02357", _REGIONS, MKGformer),
    "moreformer": Baseline("MOREformer", _MORE, _DETAILS, MOREformer, processor=MOREformerProcessor),
    "hvformer": Baseline("HVFormer", _HV, (*_REGIONS, "pixels"), HVFormer),
    "tmr": Baseline("TMR-style", _TMR, (*_DRAWN, "pixels"), TMR, processor=TMRProcessor),
}


def get_baseline(name: str) -> Baseline:
    """The baseline of this name; ValueError if there is none."""
    if name not in BASELINES:
        near = nearest(name, ["vmhan", *BASELINES])
        raise ValueError(f"model must be 'vmhan' or one of {list(BASELINES)}, received {name!r}{near}")
    return BASELINES[name]


def build_baseline(
    config: BaselineConfig,
    *,
    text_encoder: PreTrainedModel | None = None,
    vocab_size: int | None = None,
    word_vectors: dict[int, Tensor] | None = None,
    pyramid_weights: str | None = None,
) -> BaselineForRelationClassification:
    """A new model of `config.baseline`, in evaluation mode; what is not pretrained has fresh weights.

    vocab_size is `len(processor.tokenizer)`; word_vectors have (d_w,) by token id, for baselines that read words;
    pyramid_weights are of the ResNet of hvpnet, hvformer and tmr, "imagenet" or "random:SEED". ValueError for a
    baseline that is unknown or a preset of VM-HAN, and OSError without such weights.
    """
    model = _class_of(config)(config)
    if text_encoder is not None:
        model.use_text_encoder(text_encoder)
    if vocab_size is not None and vocab_size != config.text_config.vocab_size:
        model.resize_token_embeddings(vocab_size)
    if word_vectors is not None:
        model.use_word_vectors(word_vectors)
    if pyramid_weights is not None:
        model.use_pyramid(pyramid_weights)
    return model.eval()


def load_baseline(folder: str | os.PathLike) -> BaselineForRelationClassification:
    """The baseline that `save_pretrained` (or a run of run_mmre.py) left in `folder`; errors as `build_baseline`."""
    return _class_of(BaselineConfig.from_pretrained(folder)).from_pretrained(folder)


def _class_of(config: BaselineConfig) -> type[BaselineForRelationClassification]:
    baseline = get_baseline(config.baseline)
    if baseline.model is None:
        raise ValueError(
            f"{config.baseline!r} is the preset {baseline.preset!r} of VM-HAN: use VMHANConfig.from_preset."
        )
    return baseline.model
