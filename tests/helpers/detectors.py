"""Tiny detectors with random weights, saved on the spot: folders such as `from_pretrained` finds on the Hub, and a
file of ultralytics. The text encoders have a vocabulary of a few words.
"""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTokenizer,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    ResNetConfig,
    SwinConfig,
)

from datasets_scripts.detection.base import seeded
from datasets_scripts.detection.ultralytics_detector import import_ultralytics


__all__ = ["picture", "save_detr", "save_grounding_dino", "save_owlv2", "save_yolo"]

LABELS = {0: "cat", 1: "dog", 2: "red car"}
WORDS = ["a", "cat", "dog", "red", "car", "black", "hawk"]
TRANSFORMER = {"encoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_queries": 12}
TRANSFORMER |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
SMALL = {"shortest_edge": 32, "longest_edge": 128}


def picture(width, height, seed=0):
    """Noise, RGB."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _save(folder, model_class, config, processor):
    with seeded(0):
        model = model_class(config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_yolo(path):
    """YOLO11n with weights so large that its boxes depend on the image; ultralytics' own hardly do."""
    if importlib.util.find_spec("ultralytics") is None:  # not importorskip: ultralytics is for import_ultralytics
        pytest.skip("the extra ultralytics (AGPL-3.0) is not installed")
    with seeded(0):
        yolo = import_ultralytics().YOLO("yolo11n.yaml")
        with torch.no_grad():
            for parameter in yolo.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    path.parent.mkdir(parents=True, exist_ok=True)
    yolo.save(path)
    return path


def save_detr(folder):
    """DETR over transformers' own ResNet: the images of a batch are padded, and masked."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
    backbone = {"backbone_config": ResNetConfig(**sizes, layer_type="basic", out_features=["stage2"])}
    backbone |= {"use_timm_backbone": False, "id2label": LABELS}
    config = DetrConfig(**backbone, **TRANSFORMER, d_model=16, decoder_layers=1, init_std=0.5)
    return _save(folder, DetrForObjectDetection, config, DetrImageProcessor(size=SMALL))


def save_owlv2(folder):
    letters = [letter for word in WORDS for letter in word]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens), start=1)}  # 0 is the padding
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8)
    encoder = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = {**encoder, **ids, "vocab_size": 64, "max_position_embeddings": 8}
    parts = {"text_config": text, "vision_config": {**encoder, "image_size": 32, "patch_size": 8}}
    images = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    config = Owlv2Config(**parts, projection_dim=16, initializer_factor=1.0)
    return _save(folder, Owlv2ForObjectDetection, config, Owlv2Processor(images, tokenizer))


def save_grounding_dino(folder):
    # The network knows [CLS], [SEP], "." and "?" by BERT's own ids.
    known = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}
    known |= dict(enumerate([*WORDS, "##hawk"], start=200))
    vocabulary = {known.get(index, f"[unused{index}]"): index for index in range(1030)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
    text = {"vocab_size": 1030, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    parts = {"backbone_config": SwinConfig(**sizes, window_size=2, out_indices=[1, 2])}
    parts["text_config"] = text | {"model_type": "bert", "intermediate_size": 16, "max_position_embeddings": 32}
    points = {"encoder_n_points": 2, "decoder_n_points": 2, "num_feature_levels": 2, "max_text_len": 24}
    config = GroundingDinoConfig(**parts, **TRANSFORMER, **points, d_model=32, decoder_layers=2, init_std=0.2)
    processor = GroundingDinoProcessor(GroundingDinoImageProcessor(size=SMALL), tokenizer)
    return _save(folder, GroundingDinoForObjectDetection, config, processor)
