"""run_mmre.py --model NAME: a baseline's run, its folder and its flags, and what it reads."""

import json

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict, List, Value
from transformers import AutoModel

import run_mmre
from modeling_vmhan import VMHANForRelationClassification
from vmhan.baselines import BASELINES
from vmhan.scoring.predictions import read_predictions
from vmhan.training.arguments import parse_arguments
from vmhan.training.building.baselines import word_inputs
from vmhan.training.building.models import build_model, load_trained
from vmhan.training.posts.data import load_posts


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tokenizer, make_text_config, make_vision_config):
    """A folder with a tiny text encoder, a tiny CLIP, and a YAML config over both and postcards."""
    folder = tmp_path_factory.mktemp("baselines")
    AutoModel.from_config(make_text_config()).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    AutoModel.from_config(make_vision_config()).save_pretrained(folder / "vision")
    entries = {"text_encoder": str(folder / "encoder"), "preset": "full", "entity_representation": "packed"}
    entries |= {"dataset": "postcards", "num_train": 4, "num_validation": 2, "num_test": 2, "num_text_phrases": 1}
    entries |= {"features": f"transformers:{folder / 'vision'}", "cache_dir": str(folder / "cache"), "do_train": True}
    entries |= {"use_cpu": True, "num_train_epochs": 1, "save_strategy": "no", "show_example": True}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries | {"remove_unused_columns": False, "disable_tqdm": True}))
    return folder


PYRAMID = ["--model_kwargs", "{pyramid: 'resnet18:random:0', pyramid_size_px: 32}"]


def arguments_of(workplace, *flags):
    return parse_arguments([str(workplace / "tiny.yaml"), "--output_dir", str(workplace / "out"), *flags])


@pytest.fixture(scope="module")
def posts(workplace):
    return load_posts(*arguments_of(workplace)[1:])


@pytest.mark.parametrize("name", ["pcnn", "bert_sg_att", "hvpnet", "moreformer", "tmr"])
def test_a_run_leaves_a_folder_like_vm_han_s_but_no_repository(name, workplace, posts, tmp_path, capfd):
    """Its saved model answers as the run did; hvpnet reads pictures, though the configuration asks for features."""
    out, flags = tmp_path / "out", ["--model", name, "--cache_dir", str(tmp_path / "cache")]
    flags += PYRAMID * ("pixels" in BASELINES[name].inputs)
    if name == "tmr":
        flags += ["--generated_images", str(tmp_path)]
        for post in (post for split in posts.values() for post in split):
            (tmp_path / f"{post['id']}.png").write_bytes(post["image"]["bytes"])
    metrics = run_mmre.main([str(workplace / "tiny.yaml"), *flags, "--output_dir", str(out)])
    assert json.loads((out / "metrics.json").read_text()) == metrics and "test_f1" in metrics
    assert json.loads((out / "run.json").read_text())["model"]["model"] == name
    assert (out / "environment.json").exists() and not (out / "README.md").exists()
    assert metrics.get("without") == ("depth" if name == "moreformer" else None)
    assert str(tmp_path) not in (out / "run.json").read_text()
    assert "a baseline has no pipeline" in capfd.readouterr().err
    assert bool(list((tmp_path / "cache").rglob("*visual_features*"))) == (name in ("bert_sg_att", "moreformer"))
    predictions = read_predictions(out).split("test")
    model, processor = load_trained(out)
    model_args, *arguments = arguments_of(workplace, *flags)
    test = load_posts(*arguments, model_args.reads)["test"]
    with torch.no_grad():
        logits = model.eval()(**processor(list(test))).logits / model.config.calibration_temperature
    expected = torch.tensor(predictions.probabilities, dtype=torch.float32)
    torch.testing.assert_close(logits.softmax(dim=-1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["gcn", "gat", "hgnn"])
def test_a_graph_baseline_is_the_preset(name, workplace, posts):
    """One model, not two: the same layers over the same nodes without variances."""
    outputs = []
    for flag in ("--model", "--preset"):
        model_args, data_args, _ = arguments_of(workplace, flag, name)
        torch.manual_seed(0)
        model, processor = build_model(model_args, data_args, posts)
        assert type(model) is VMHANForRelationClassification and model.config.hypergraph_encoder == name
        assert not model.config.variational
        outputs.append(model(**processor(list(posts["train"]))).logits)
    assert torch.equal(*outputs)


def test_flags_that_a_baseline_does_not_read_are_named(workplace, posts, caplog):
    flags = ["--model", "bert_sg", "--num_objects", "2", "--hidden_size", "8", "--classifier_dropout", "0.3"]
    model_args, data_args, _ = arguments_of(workplace, *flags, "--visual", "pixels")
    with caplog.at_level("INFO"):
        config = build_model(model_args, data_args, posts)[0].config
    assert (config.num_objects, config.num_text_phrases, config.classifier_dropout) == (2, 0, 0.3)
    ignored = "hidden_size, num_text_phrases, entity_representation: not used"
    assert f"bert_sg takes no {ignored}" in caplog.text


def test_moreformer_reads_the_depth_maps_that_the_data_have(workplace, posts):
    model_args, data_args, _ = arguments_of(workplace, "--model", "moreformer")
    kind = List(List(Value("float16"), length=4))
    maps = {split: [[[0.5] * 4] * len(post["boxes"]) for post in rows] for split, rows in posts.items()}
    splits = {split: rows.add_column("object_depths", maps[split], feature=kind) for split, rows in posts.items()}
    model, processor = build_model(model_args, data_args, DatasetDict(splits))
    assert (model.config.depth_size, model.config.without) == (4, None)
    assert model(**processor(list(splits["train"]))).logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("tmr", None, "--generated_images: .*--model tmr and none"),
        ("mtb", "drawn", "--generated_images: .*--model mtb and one"),
        ("vmhan", "drawn", "--generated_images: .*--model vmhan and one"),
    ],
)
def test_generated_images_are_for_tmr_alone(name, folder, message, workplace, posts):
    model_args, data_args, _ = arguments_of(workplace, "--model", name)
    if folder is not None:
        posts = {split: rows.add_column("generated_image", ["x.png"] * len(rows)) for split, rows in posts.items()}
    with pytest.raises(ValueError, match=message):
        build_model(model_args, data_args, posts)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "pcn"], "'pcn'.*'pcnn'"),
        (["--model", "mtb", "--preset", "no_kl"], "--preset .*--model mtb --preset no_kl"),
        (["--model", "gcn", "--preset", "gat"], "--model gcn --preset gat"),
        (["--model", "mtb", "--model_kwargs", "{word_vectors: glove.txt}"], "word_vectors.*mtb|mtb.*word_vectors"),
        (["--model", "mtb", "--push_to_hub", "true"], "--push_to_hub .*mtb"),
    ],
)
def test_flags_that_do_not_go_together(workplace, flags, message):
    with pytest.raises(ValueError, match=message):
        arguments_of(workplace, *flags)


def test_the_vocabulary_is_the_training_split_s_and_the_vectors(workplace, posts, tmp_path):
    """Words that stand twice in training; with a vector also those that stand once, or in another split only."""
    splits = {"train": [["Ann", "met", "Bob"], ["ann", "waves"]], "test": [["Bob", "sings", "sings"]]}
    few = DatasetDict({split: Dataset.from_dict({"tokens": tokens}) for split, tokens in splits.items()})
    tokenizer, vectors = word_inputs(few, None)
    assert set(tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "ann", "[E1]", "[/E1]", "[E2]", "[/E2]"} and not vectors
    (tmp_path / "vectors.txt").write_text("waves 1 2\nsings 3 4\nzebra 5 6\n")
    tokenizer, vectors = word_inputs(few, str(tmp_path / "vectors.txt"))
    assert {"ann", "waves", "sings"} <= set(tokenizer.get_vocab()) and "zebra" not in tokenizer.get_vocab()
    assert vectors[tokenizer.convert_tokens_to_ids("sings")].tolist() == [3, 4]
    word = posts["train"][0]["tokens"][0].lower()
    (tmp_path / "vectors.txt").write_text(f"{word} 3 4\n")
    flags = ["--model", "cnn", "--model_kwargs", json.dumps({"word_vectors": str(tmp_path / "vectors.txt")})]
    model, processor = build_model(*arguments_of(workplace, *flags)[:2], posts)
    assert model.word_embeddings.weight[processor.tokenizer.convert_tokens_to_ids(word)].tolist() == [3, 4]
