"""First weights of a new model that have a meaning: the markers' embeddings, and the classifier's columns.

They are no fields of the model: what is saved has the weights that training made of them.
"""

import re

import torch
from transformers import PreTrainedTokenizerBase

from modeling_vmhan import VMHANForRelationClassification
from modeling_vmhan.argument_types import argument_types
from modeling_vmhan.configuration_vmhan import SAFE_ENCODERS
from modeling_vmhan.direction import INVERSE
from modeling_vmhan.windows import MARKERS


__all__ = ["name_in_words", "start_classifier", "start_markers"]

PUNCTUATION = ("@", "@", "#", "#")  # of `MARKERS`
WORDS_OF_TYPES = {"per": "person", "loc": "location", "org": "organization", "misc": "miscellaneous"}


@torch.no_grad()
def start_markers(model: VMHANForRelationClassification, tokenizer: PreTrainedTokenizerBase) -> None:
    """The markers' embeddings start as those of "@ head @ ... # tail #" (Zhou and Chen 2021, arXiv 2102.01373).

    The encoder then reads at step 0 what it would read with those signs in the markers' places. Departure from that
    paper: the embeddings are rows of their own, which training moves apart from the signs of the posts, where "@" and
    "#" have a meaning. ValueError for a model without markers or an encoder without the signs.
    """
    if model.config.entity_representation == "span":
        rule = "--marker_start punctuation: expected a model with markers, --entity_representation marker or packed"
        raise ValueError(f"{rule}, received {model.config.entity_representation}.")
    embeddings = model.get_input_embeddings().weight
    for marker, sign in zip(MARKERS, PUNCTUATION, strict=True):
        ids = tokenizer(sign, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            rule = f"--marker_start punctuation: expected a text encoder with one token for {sign!r}"
            raise ValueError(f"{rule}, received one that reads {tokenizer.convert_ids_to_tokens(ids)}.")
        embeddings[tokenizer.convert_tokens_to_ids(marker)] = embeddings[ids[0]]


@torch.no_grad()
def start_classifier(model: VMHANForRelationClassification, tokenizer: PreTrainedTokenizerBase) -> None:
    """The columns that read the means of head and tail start as the names of the relations.

    A name is encoded as a node of its words would be: mean state, text projection, W_mu of equation 4, so that a logit
    starts as the likeness of the name to head and tail. What all names share is subtracted, which no probability sees,
    and the deviation is `initializer_range`, as of other first weights. The columns of variances, and of the averages
    of no_vhan, keep theirs: a name has none. ValueError for a graph layer that replaces the node that it reads.
    """
    config, base = model.config, model.vmhan
    if config.hypergraph_encoder not in SAFE_ENCODERS:
        rule = f"--classifier_start label_names: expected an encoder that adds to its nodes, of {SAFE_ENCODERS}"
        raise ValueError(f"{rule}, received {config.hypergraph_encoder!r}.")
    words = tokenizer([name_in_words(label) for label in config.labels], padding=True, return_tensors="pt")
    states = base.text_encoder(**words).last_hidden_state  # (R, T, D_text)
    is_real = words["attention_mask"].unsqueeze(-1)
    names, _ = base.gaussian_nodes(base.text_projection((states * is_real).sum(dim=1) / is_real.sum(dim=1)))  # (R, D)
    names = names - names.mean(dim=0)
    names = names * config.initializer_range / names.std()
    kinds = 2 if config.variational else 1
    columns = model.classifier.weight.unflatten(1, (-1, kinds, config.hidden_size))  # (R, n, mean and variance, D)
    columns[:, :2, 0] = names.unsqueeze(1)


def name_in_words(label: str) -> str:
    """A relation's name as a text encoder can read it, its types first, in the order of the label's mentions.

    Example:
        >>> name_in_words("/per/loc/place_of_birth (inverse)")
        'location person place of birth inverse'
    """
    types = argument_types(label) or ()
    relation = label.removesuffix(INVERSE).rpartition("/" if types else "\0")[2]
    words = [WORDS_OF_TYPES.get(of, of) for of in types] + re.findall(r"[^\W_]+", relation)
    return " ".join([*words, "inverse"] if label.endswith(INVERSE) else words)
