"""First weights that have a meaning: what the encoder reads for a marker, what the classifier says of a name."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import close
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import run_mmre
from modeling_vmhan.windows import MARKERS
from vmhan.training.arguments import parse_arguments
from vmhan.training.building.starts import name_in_words, start_classifier, start_markers


SIGNS = ["@", "@", "#", "#"]


@pytest.mark.parametrize("mode", ["marker", "packed"])
def test_a_marker_is_read_as_its_sign_at_first(mode, make_model, make_processor, posts):
    model = make_model(entity_representation=mode)
    processor = make_processor(model.config)
    ids = processor.tokenizer.convert_tokens_to_ids
    inputs = processor(posts())
    with_signs = {**inputs, "input_ids": inputs["input_ids"].clone()}
    for marker, sign in zip(ids(list(MARKERS)), ids(SIGNS), strict=True):
        with_signs["input_ids"][inputs["input_ids"] == marker] = sign
    with torch.no_grad():
        before, expected = model(**inputs).logits, model(**with_signs).logits
        assert (before - expected).abs().max() > 1e-2
        start_markers(model, processor.tokenizer)
        close(model(**inputs).logits, expected)
        model.get_input_embeddings().weight[ids("@")] += 1.0  # the rows are the markers' own
        close(model(**inputs).logits, expected)


def test_the_signs_of_a_byte_level_tokenizer(make_model, make_text_config, make_processor, roberta_tokenizer):
    model = make_model(text_config=make_text_config("roberta"))
    tokenizer = make_processor(model.config, tokenizer=roberta_tokenizer).tokenizer
    start_markers(model, tokenizer)
    rows = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids([*MARKERS, *SIGNS])]
    assert torch.equal(rows[:4], rows[4:]) and not torch.equal(rows[0], rows[2])


def test_where_markers_cannot_start_so(make_model, tokenizer):
    with pytest.raises(ValueError, match="--marker_start punctuation: .* received span"):
        start_markers(make_model(entity_representation="span"), tokenizer)
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    without = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    with pytest.raises(ValueError, match=r"--marker_start punctuation: .*'@', received .*\['\[UNK\]'\]"):
        start_markers(make_model(), without)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("/per/loc/place_of_birth", "person location place of birth"),
        ("/per/loc/place_of_birth (inverse)", "location person place of birth inverse"),
        ("/org/misc/Present-in", "organization miscellaneous Present in"),
        ("/animal/per/pet", "animal person pet"),
        ("None", "None"),
        ("org:founded_by", "org founded by"),
        ("a/b", "a b"),
    ],
)
def test_names_in_words(label, words):
    assert name_in_words(label) == words


@pytest.mark.parametrize(
    ("preset", "fields"),
    [("full", {}), ("full", {"safe_start": True, "hidden_size": 16}), ("text_only", {}), ("no_vhan", {})],
)
def test_the_columns_of_head_and_tail_are_the_names_as_nodes(preset, fields, make_model, tokenizer):
    model = make_model(preset, **fields)
    config, base = model.config, model.vmhan
    before = model.classifier.weight.detach().unflatten(1, (-1, 2 if config.variational else 1, config.hidden_size))
    before = before.clone()
    start_classifier(model, tokenizer)
    columns = model.classifier.weight.detach().unflatten(1, before.shape[1:])
    assert torch.equal(columns[:, 0, 0], columns[:, 1, 0])
    assert torch.equal(columns[:, 2:], before[:, 2:]) and torch.equal(columns[:, :, 1:], before[:, :, 1:])
    with torch.no_grad():  # each name alone, so that padding would be seen
        rows = [
            base.text_encoder(**tokenizer(name_in_words(n), return_tensors="pt"))[0].mean(1) for n in config.labels
        ]
        names = base.gaussian_nodes(base.text_projection(torch.cat(rows)))[0]
    names = names - names.mean(dim=0)
    close(columns[:, 0, 0], names * config.initializer_range / names.std())
    scores = torch.nn.functional.normalize(names) @ columns[:, 0, 0].T  # of nodes that are as the names
    assert scores.argmax(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("preset", ["gcn", "variational_gcn"])
def test_a_layer_that_replaces_nodes_reads_no_names(preset, make_model, tokenizer):
    with pytest.raises(ValueError, match=f"--classifier_start label_names: .*received '{preset}'"):
        start_classifier(make_model(preset), tokenizer)


def test_the_flags_start_a_run(workplace, tmp_path):
    flags = "--marker_start punctuation --classifier_start label_names --do_train false --visual none".split()
    run_mmre.main([str(workplace / "tiny.yaml"), *flags, "--output_dir", str(tmp_path)])
    saved, tokenizer = load_file(tmp_path / "model.safetensors"), AutoTokenizer.from_pretrained(tmp_path)
    rows = saved["vmhan.text_encoder.embeddings.word_embeddings.weight"]
    assert torch.equal(
        rows[tokenizer.convert_tokens_to_ids(list(MARKERS))], rows[tokenizer.convert_tokens_to_ids(SIGNS)]
    )
    head, tail = saved["classifier.weight"].unflatten(1, (2, 2, -1))[:, :, 0].unbind(dim=1)
    assert torch.equal(head, tail) and head.std() > 0
    assert not {"marker_start", "classifier_start"} & json.loads((tmp_path / "config.json").read_text()).keys()


@pytest.mark.parametrize("flag", ["marker_start punctuation", "classifier_start label_names", "log_loss_shares true"])
def test_flags_of_vmhan_are_refused_with_a_baseline(flag):
    start = ["--output_dir", "x", "--do_train", "true", *f"--{flag}".split()]
    with pytest.raises(ValueError, match=f"--{flag.split()[0]} .*--model bert"):
        parse_arguments([*start, "--model", "bert"])
    parse_arguments([*start, "--model", "gcn"])  # a preset of VM-HAN
