"""run_mmre.py --model NAME: a baseline's run, its folder and its flags; that it learns what its inputs decide."""

import json
import random

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from tiny import LABELS, VISUAL_SIZE
from transformers import BertConfig, BertModel

import run_mmre
from datasets_scripts.builders.postcards import PostcardsConfig, make_postcard
from datasets_scripts.schema import post_features
from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from vmhan.baselines import BaselineConfig, build_baseline, load_baseline
from vmhan.training.arguments import parse_arguments
from vmhan.training.baselines import word_inputs
from vmhan.training.data import load_posts
from vmhan.training.models import build_model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, posts, tokenizer):
    """A folder with a tiny text encoder, posts with features in Parquet, and a YAML config over both."""
    folder = tmp_path_factory.mktemp("baselines")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    for split, count in (("train", 4), ("validation", 3), ("test", 2)):
        to_posts(posts()[:count], split).to_parquet(folder / "posts" / f"{split}.parquet")
    entries = {"text_encoder": str(folder / "encoder"), "preset": "full", "entity_representation": "packed"}
    entries |= {"dataset": str(folder / "posts"), "cache_dir": str(folder / "cache"), "num_text_phrases": 1}
    entries |= {"do_train": True, "use_cpu": True, "num_train_epochs": 1, "save_strategy": "no"}
    entries |= {"remove_unused_columns": False, "disable_tqdm": True, "show_example": True}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries))
    return folder


def to_posts(rows, split):
    """Rows of the fixture `posts` as a split of the project's schema."""
    empty = {"text_phrases": [], "objects": [], "image_phrases": [], "tail_object": -1}
    lists = ("object_features", "boxes", "object_labels", "image_phrases")
    made = []
    for row in rows:
        post = {"image_id": row["id"], "caption": None, "image_features": None, **{k: [] for k in lists}, **row}
        post["pairs"] = [{**empty, **pair} for pair in row["pairs"]]
        made.append(post)
    features = post_features(LABELS, images=False, visual_feature_size=VISUAL_SIZE)
    made = [{name: post[name] for name in features} for post in made]
    return Dataset.from_list(made, features=features)


PICTURES = "--dataset postcards --num_train 2 --num_validation 1 --num_test 2 --features random:0 --pyramid".split()
PICTURES += ["resnet18:random:0", "--pyramid_size_px", "32"]


def arguments_of(workplace, *flags):
    return parse_arguments([str(workplace / "tiny.yaml"), "--output_dir", str(workplace / "out"), *flags])


@pytest.mark.parametrize("name", ["pcnn", "bert_sg_att", "hvpnet"])
def test_a_run_leaves_a_folder_like_vm_han_s_but_no_repository(name, workplace, tmp_path, capfd):
    """Its saved model answers as the run did; hvpnet reads pictures, though the configuration asks for features."""
    flags = ["--model", name, "--output_dir", str(tmp_path), *(PICTURES if name == "hvpnet" else [])]
    metrics = run_mmre.main([str(workplace / "tiny.yaml"), *flags])
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics and "test_f1" in metrics
    assert json.loads((tmp_path / "run.json").read_text())["model"]["model"] == name
    assert (tmp_path / "environment.json").exists() and not (tmp_path / "README.md").exists()
    assert "a baseline has no pipeline" in capfd.readouterr().err
    assert not list((workplace / "cache").rglob("features-*"))
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    expected = torch.tensor([row["probabilities"] for row in rows if row["split"] == "test"])
    model, processor = load_baseline(tmp_path).eval(), VMHANProcessor.from_pretrained(tmp_path)
    _, data_args, run_args = arguments_of(workplace, *flags)
    test = load_posts(data_args, run_args, with_features=name != "hvpnet")["test"]
    with torch.no_grad():
        logits = model(**processor(list(test))).logits / model.config.calibration_temperature
    torch.testing.assert_close(logits.softmax(dim=-1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["gcn", "gat", "hgnn"])
def test_a_graph_baseline_is_the_preset(name, workplace):
    """One model, not two: the same layers over the same nodes without variances."""
    posts = DatasetDict(train=Dataset.from_parquet(str(workplace / "posts" / "train.parquet")))
    outputs = []
    for flag in ("--model", "--preset"):
        model_args, data_args, _ = arguments_of(workplace, flag, name)
        torch.manual_seed(0)
        model, processor = build_model(model_args, data_args, posts)
        assert type(model) is VMHANForRelationClassification and model.config.hypergraph_encoder == name
        assert not model.config.variational
        outputs.append(model(**processor(list(posts["train"]))).logits)
    assert torch.equal(*outputs)


def test_flags_that_a_baseline_does_not_read_are_named(workplace, caplog):
    posts = DatasetDict(train=Dataset.from_parquet(str(workplace / "posts" / "train.parquet")))
    flags = ["--model", "bert_sg", "--num_objects", "2", "--hidden_size", "8", "--classifier_dropout", "0.3"]
    model_args, data_args, _ = arguments_of(workplace, *flags, "--visual", "pixels")
    with caplog.at_level("INFO"):
        config = build_model(model_args, data_args, posts)[0].config
    assert (config.num_objects, config.num_text_phrases, config.classifier_dropout) == (2, 0, 0.3)
    ignored = "hidden_size, num_text_phrases, entity_representation: not used"
    assert f"bert_sg takes no {ignored}" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "pcn"], "'pcn'.*'pcnn'"),
        (["--model", "mtb", "--preset", "no_kl"], "--preset .*--model mtb --preset no_kl"),
        (["--model", "gcn", "--preset", "gat"], "--model gcn --preset gat"),
        (["--model", "mtb", "--word_vectors", "glove.txt"], "--word_vectors .*mtb"),
        (["--word_vectors", "glove.txt"], "--word_vectors .*vmhan"),
        (["--model", "mtb", "--push_to_hub", "true"], "--push_to_hub .*mtb"),
    ],
)
def test_flags_that_do_not_go_together(workplace, flags, message):
    with pytest.raises(ValueError, match=message):
        arguments_of(workplace, *flags)


def test_the_vocabulary_is_the_training_split_s_and_the_vectors(workplace, tmp_path):
    """Words that stand twice in training; with a vector also those that stand once, or in another split only."""
    splits = {"train": [["Ann", "met", "Bob"], ["ann", "waves"]], "test": [["Bob", "sings", "sings"]]}
    posts = DatasetDict({split: Dataset.from_dict({"tokens": tokens}) for split, tokens in splits.items()})
    tokenizer, vectors = word_inputs(posts, None)
    assert set(tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "ann", "[E1]", "[/E1]", "[E2]", "[/E2]"} and not vectors
    (tmp_path / "vectors.txt").write_text("waves 1 2\nsings 3 4\nzebra 5 6\n")
    tokenizer, vectors = word_inputs(posts, str(tmp_path / "vectors.txt"))
    assert {"ann", "waves", "sings"} <= set(tokenizer.get_vocab()) and "zebra" not in tokenizer.get_vocab()
    assert vectors[tokenizer.convert_tokens_to_ids("sings")].tolist() == [3, 4]
    model_args, data_args, _ = arguments_of(
        workplace, "--model", "cnn", "--model_kwargs", json.dumps({"word_vectors": str(tmp_path / "vectors.txt")})
    )
    train = Dataset.from_parquet(str(workplace / "posts" / "train.parquet"))
    (tmp_path / "vectors.txt").write_text("ann 1 2\nbob 3 4\n")
    model, processor = build_model(model_args, data_args, DatasetDict(train=train))
    row = processor.tokenizer.convert_tokens_to_ids("bob")
    assert model.word_embeddings.weight.shape[1] == 2 and model.word_embeddings.weight[row].tolist() == [3, 4]


# ---------------------------------------------------------------- what text decides


def test_words_tell_the_kind_of_the_tail():
    """Postcards' words decide whether the tail is a person, an organisation or a place, not the relation."""
    kinds = ["None", "per", "org", "loc"]
    cards = [make_postcard(PostcardsConfig(max_pairs=2), "train", i) for i in range(140)]
    rows = [
        {"tokens": card.tokens, "pairs": [{**p, "relation": k} for p, k in zip(card.pairs, card.tail_types)]}
        for card in cards
    ]
    train, test = rows[:100], rows[100:]
    tokenizer, _ = word_inputs(DatasetDict(train=Dataset.from_list([{"tokens": r["tokens"]} for r in train])), None)
    text_config = {"model_type": "vmhan_word_convolution", "vocab_size": len(tokenizer), "num_filters": 50}
    config = BaselineConfig("pcnn", text_config, "span", id2label=dict(enumerate(kinds)))
    torch.manual_seed(0)
    model, processor = build_baseline(config).train(), VMHANProcessor.for_config(config, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    for epoch in range(6):
        random.Random(epoch).shuffle(train)
        for start in range(0, len(train), 20):
            optimizer.zero_grad()
            model(**processor(train[start : start + 20], label2id=config.label2id)).loss.backward()
            optimizer.step()
    inputs = processor(test, label2id=config.label2id)
    with torch.no_grad():
        right = model.eval()(**inputs).logits.argmax(dim=-1) == inputs["labels"]
    majority = inputs["labels"].bincount().max() / len(right)
    assert right.float().mean() > 0.8 > majority + 0.2
