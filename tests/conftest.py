"""Tiny builders: tokenizers made on the spot, text encoders of two layers, four posts. Nothing is downloaded.

All fixtures are session-wide and read-only: `posts()` and the `make_*` factories give fresh objects at each call.
"""

import copy
import json
import os
import re
import string
from types import SimpleNamespace

import hypothesis
import pytest
import torch
import torchvision
from hub_server import HubServer
from stranger import Stranger
from tiny import LABELS, VISUAL_SIZE, WORDS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerFast

from model_cards.run_metadata import describe_run
from modeling_vmhan import VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.pipeline_vmhan import MultimodalRelationClassificationPipeline


# Property tests: the same examples at every run, and no time limit an example (the machine may be busy).
hypothesis.settings.register_profile("vmhan", deadline=None, derandomize=True)
hypothesis.settings.load_profile("vmhan")


# Files whose tests train, kill, compile or start processes; `make test-quick` leaves them out.
SLOW = """test_ray test_scaling test_run_mmre test_search test_evaluating test_sweep test_prepare_resume
test_prepare_training test_paper_recipe test_export test_speed test_hub test_saving test_lean test_docs test_cli
test_visual_share test_visual_dropout test_baselines_run test_predict test_browser test_selection_llm
test_detection_adapters test_resuming test_diverging test_one_process test_processes test_locks test_resumable
test_ready test_chat_limits test_node_numbers test_image_attacks test_image_kinds test_values test_hostile_rows
test_reliability test_baselines test_fetching test_audit test_chat test_verdicts test_names_in_tables
test_prepare_images test_pictures test_leaks test_figures test_mnre test_calling
test_own_data test_fit_none_bias test_handler test_serve test_starts test_averaging test_loss_shares""".split()


def pytest_collection_modifyitems(items):
    """Ray's tests wait for its processes most of their time: first, so that the other worker has work meanwhile."""
    items.sort(key=lambda item: item.path.stem != "test_ray")
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


# Skips that are right. Any other one fails a run in CI, so that no test is lost there without a word.
NAMED_SKIPS = ("redistribut|real |the paper is not at", "gradio|ultralytics|spacy|dhg", "timm is installed")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    reasons = {report.longrepr[2] for report in skipped}
    unnamed = {reason for reason in reasons if not any(re.search(named, reason) for named in NAMED_SKIPS)}
    if unnamed and os.environ.get("CI"):
        reporter.write_line(f"skipped in CI for reasons that conftest.py does not name: {sorted(unnamed)}", red=True)
        session.exitstatus = 1


@pytest.fixture(scope="session")
def tokenizer():
    """BERT-like WordPiece: the words of `WORDS` are one token each, every other ASCII word is spelt out."""
    alphabet = sorted(string.ascii_lowercase + string.digits + string.punctuation)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *alphabet, *(f"##{letter}" for letter in alphabet)]
    tokens += [word for word in WORDS if len(word) > 1]
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = decoders.WordPiece()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **special)


@pytest.fixture(scope="session")
def roberta_tokenizer():
    """RoBERTa-like byte-level BPE: two separators between the segments, no token types, pad id 1."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, **options)
    backend.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    special |= {f"{name}_token": f"<{name}>" for name in ("pad", "unk", "mask")}
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **special)


@pytest.fixture(scope="session")
def make_text_config(tokenizer):
    """Tiny text encoder configurations by model type; dropout is off, so that training mode is deterministic."""
    roberta = {"pad_token_id": 1, "type_vocab_size": 1}
    # The settings of DeBERTa-v3, which has the class of v2.
    deberta = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32}
    deberta |= {"norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False}
    deberta |= {"type_vocab_size": 0, "pooler_dropout": 0.0, "pooler_hidden_size": 32}
    modernbert = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    modernbert |= {"attention_dropout": 0.0, "local_attention": 8}
    specific = {"bert": {}, "roberta": roberta, "xlm-roberta": roberta, "deberta-v2": deberta}
    specific["modernbert"] = modernbert

    def make(model_type="bert", **fields):
        common = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        common |= {"intermediate_size": 48, "max_position_embeddings": 192, "pad_token_id": 0}
        if model_type != "modernbert":
            common |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return AutoConfig.for_model(model_type, **{**common, **specific[model_type], **fields})

    return make


@pytest.fixture(scope="session")
def make_vision_config():
    """Tiny vision backbone configurations by model type; 32 features of images of 32 pixels."""
    vit = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vit |= {"image_size": 32, "patch_size": 8, "initializer_range": 0.2}
    specific = {
        "clip_vision_model": {**vit, "initializer_factor": 5.0},
        "siglip_vision_model": vit,
        "dinov2": {**vit, "mlp_ratio": 2},
        "dinov3_vit": vit,
        "convnext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "image_size": 32},
    }

    def make(model_type="clip_vision_model", **fields):
        return AutoConfig.for_model(model_type, **{**specific[model_type], **fields})

    return make


@pytest.fixture(scope="session")
def make_thin_vgg16():
    """VGG16 with few channels (its real 134 million weights take seconds), but the same pooling and 4096 features."""

    def make(weights=None, init_weights=True):
        maps = torchvision.models.vgg.make_layers([4, "M", 4, "M", 8, "M", 8, "M", 16, "M"])
        head = [nn.Linear(16 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 4096), nn.ReLU(), nn.Dropout()]
        head = nn.Sequential(*head, nn.Linear(4096, 2))
        return SimpleNamespace(features=maps, avgpool=nn.AdaptiveAvgPool2d(7), classifier=head)

    return make


@pytest.fixture
def thin_vgg16(make_thin_vgg16, monkeypatch):
    """The thin VGG16 in place of the real one."""
    monkeypatch.setattr("modeling_vmhan.vgg16.vgg16", make_thin_vgg16)


@pytest.fixture(scope="session")
def make_config(make_text_config):
    """`VMHANConfig` of a row of Table 2, tiny; fields override the tiny defaults."""

    def make(preset="full", **fields):
        defaults = {"visual_feature_size": VISUAL_SIZE, "classifier_dropout": 0.0, "id2label": dict(enumerate(LABELS))}
        return VMHANConfig.from_preset(preset, **{"text_config": make_text_config(), **defaults, **fields})

    return make


@pytest.fixture(scope="session")
def make_processor(tokenizer):
    """A processor; with `config` its fields are the model's."""

    def make(config=None, tokenizer=tokenizer, **fields):
        if config is not None:
            return VMHANProcessor.for_config(config, tokenizer, **fields)
        return VMHANProcessor(tokenizer, **{"visual_feature_size": VISUAL_SIZE, **fields})

    return make


@pytest.fixture(scope="session")
def make_model(make_config):
    """A classifier in eval mode; its seeded weights are large (0.2), so that what matters is seen in the logits."""

    def make(preset="full", *, seed=0, config=None, **fields):
        config = config or make_config(preset, **{"initializer_range": 0.2, **fields})
        torch.manual_seed(seed)
        return VMHANForRelationClassification(config).eval()

    return make


@pytest.fixture(scope="module")
def make_pipe(make_model, make_processor):
    """`make_pipe(preset or model=..., **options)`: a pipeline on the CPU, with samples, so that these are compared."""

    def make(preset="full", model=None, processor=None, **options):
        model = model or make_model(preset)
        processor = processor or make_processor(model.config)
        options = {"num_samples": 32, **options}
        return MultimodalRelationClassificationPipeline(model, processor, device="cpu", **options)

    return make


@pytest.fixture(scope="module")
def pipe(make_pipe):
    """A pipeline whose model takes no pixels."""
    return make_pipe()


@pytest.fixture(scope="module")
def seeing(make_model, make_pipe, make_vision_config):
    """A pipeline whose model reads pixels."""
    return make_pipe(model=make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8)))


@pytest.fixture(scope="module")
def seeing_folder(seeing, tmp_path_factory):
    """It, saved."""
    folder = tmp_path_factory.mktemp("seeing") / "model"
    seeing.save_pretrained(folder)
    return folder


def _features(count, seed):
    return torch.randn(count, VISUAL_SIZE, generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(scope="session")
def posts():
    """Four posts with six pairs: everything given; no image; an image without objects or caption; a short one."""
    everything = {
        "id": "everything",
        "tokens": "Ann met Bob in Paris with the Zulu band".split(),
        "image_features": _features(1, 0)[0],
        "object_features": _features(4, 1),
        "caption": "a red car next to a big stage",
        "image_phrases": ["red car", "big stage", "blue sky"],
        "pairs": [
            {"head": (0, 1), "tail": (2, 3), "text_phrases": [(3, 5), (5, 9)], "relation": "peer"},
            {"head": (2, 3), "tail": (7, 9), "text_phrases": [], "relation": "member_of", "objects": [3, 0]},
            {"head": (4, 5), "tail": (0, 1), "text_phrases": [(1, 3)], "relation": "None"},
        ],
    }
    no_image = {
        "id": "no image",
        "tokens": "they played in Paris at night".split(),
        "pairs": [{"head": (0, 1), "tail": (3, 4), "text_phrases": [(1, 4)], "relation": "located_in"}],
    }
    no_objects = {
        "id": "no objects",
        "tokens": "Bob and the band".split(),
        "image_features": _features(1, 2)[0],
        "object_features": [],
        "pairs": [{"head": (3, 4), "tail": (0, 1), "relation": "member_of"}],
    }
    short = {
        "id": "short",
        "tokens": "Ann , Bob".split(),
        "image_features": _features(1, 3)[0],
        "object_features": _features(2, 4),
        "image_phrases": ["red car"],
        "pairs": [{"head": (0, 1), "tail": (2, 3), "relation": "None"}],
    }

    def make():
        return copy.deepcopy([everything, no_image, no_objects, short])

    return make


@pytest.fixture(scope="session")
def object_post():
    """A post as MORE has them: each pair's tail is an image object."""

    def make():
        return {
            "id": "more",
            "tokens": "Ann played with the band".split(),
            "image_features": _features(1, 5)[0],
            "object_features": _features(3, 6),
            "caption": "a big stage",
            "pairs": [
                {"head": (0, 1), "tail": [], "tail_object": 2, "relation": "peer"},
                {"head": (4, 5), "tail": None, "tail_object": 0, "relation": "member_of"},
            ],
        }

    return make


@pytest.fixture(scope="session")
def encode(make_processor):
    """`encode(model, posts)`: the inputs of this model, labels included."""

    def encoded(model, posts, **fields):
        return make_processor(model.config, **fields)(posts, label2id=model.config.label2id)

    return encoded


@pytest.fixture(scope="session")
def predict(encode):
    """`predict(model, posts)` -> logits (P, R)."""

    def logits(model, posts):
        with torch.no_grad():
            return model(**encode(model, posts)).logits

    return logits


@pytest.fixture(scope="module")
def hub():
    """A Hub on 127.0.0.1 for this file's tests."""
    with HubServer() as server:
        yield server


@pytest.fixture(scope="session")
def write_run_files():
    """`write_run_files(folder, **metrics)`: the metrics.json and run.json that run_mmre.py would leave there."""

    def write(folder, model=None, data=None, **metrics):
        scores = {"accuracy": 0.91234, "precision": 0.71, "recall": 0.69, "f1": 0.699857, "macro_f1": 0.5, "loss": 0.3}
        measured = {f"{split}_{name}": value for split in ("validation", "test") for name, value in scores.items()}
        measured |= {"seed": 7, "train_runtime": 12.5, "test_runtime": 0.25, **metrics}
        run = describe_run(
            ["configs/mnre_offline.yaml", "--output_dir", "/home/ann/out", "--hub_token", "hf_secret"],
            model={"text_encoder": "offline:all-MiniLM-L6-v2", "preset": "full", **(model or {})},
            data={"dataset": "mnre", "data_dir": "/home/ann/mnre", **(data or {})},
            training={"learning_rate": 2e-5, "num_train_epochs": 3.0, "bf16": False, "hub_token": "hf_secret"},
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(measured))
        (folder / "run.json").write_text(json.dumps(run))

    return write


@pytest.fixture(scope="session")
def run_stranger(tmp_path_factory):
    """`run_stranger(code, *arguments)` -> what the code prints where only a saved folder's needs are installed."""
    stranger = Stranger(tmp_path_factory.mktemp("stranger"))
    yield stranger.run
    stranger.close()
