"""A tiny training run that several rooms look at."""

import pytest
import torch
import yaml
from transformers import AutoTokenizer, BertConfig, BertModel

import run_mmre
from vmhan.training import text_encoders
from vmhan.training.arguments import parse_arguments
from vmhan.training.posts.data import load_posts


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, make_thin_vgg16):
    """A folder with a tiny text encoder and a YAML config, whose posts are built with features of a thin VGG16."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = AutoTokenizer.from_pretrained(text_encoders.resolve_text_encoder(text_encoders.OFFLINE_ENCODER))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    entries = {"text_encoder": str(folder / "encoder"), "cache_dir": str(folder / "cache")}
    entries |= {"entity_representation": "packed", "features": "random:0", "feature_size_px": 32}
    entries |= {"visual": "features"}  # without VGG16 in each saved folder
    entries |= {"dataset": "postcards", "num_train": 10, "num_validation": 5, "num_test": 4}
    entries |= {"num_train_epochs": 2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 2}
    entries |= {"learning_rate": 0.001, "head_learning_rate": 0.01, "train_sampling_strategy": "group_by_length"}
    entries |= {"eval_strategy": "epoch", "save_strategy": "epoch", "logging_steps": 1}
    entries |= {"load_best_model_at_end": True, "metric_for_best_model": "f1"}
    entries |= {"do_train": True, "use_cpu": True, "disable_tqdm": True}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeling_vmhan.vgg16.vgg16", make_thin_vgg16)
        load_posts(*parse_arguments([str(folder / "tiny.yaml"), "--output_dir", "x"])[1:])
    return folder


@pytest.fixture(scope="session")
def finished(workplace):
    """One finished run, calibrated on its few pairs: (output folder, metrics)."""
    output = workplace / "full"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmhan.scoring.calibration.LEAST_PAIRS", 1)
        metrics = run_mmre.main([str(workplace / "tiny.yaml"), "--output_dir", str(output), "--show_example", "true"])
    return output, metrics
