"""Every field has a rule, a message and an effect; Table 2's rows; labels; the JSON round trip."""

import inspect
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, PreTrainedConfig

from modeling_vmhan import (
    PRESETS,
    MultimodalRelationClassificationPipeline,
    VMHANConfig,
    VMHANForRelationClassification,
)
from modeling_vmhan.configuration_vmhan import NO_PROPAGATION, PLAIN_ENCODERS
from modeling_vmhan.precision import least_score
from vmhan.scoring.scorer import score


FIELDS = [name for name in inspect.signature(VMHANConfig.__init__).parameters if name not in ("self", "kwargs")]

REFERENCE = {"name": "imagenet", "revision": None, "sha256": "0"}

INVALID_VALUES = {
    "text_config": ["bert-base-uncased"],
    "entity_representation": ["markers"],
    "image_text_visibility": ["hidden", True],
    "order_blind": ["true", 1],
    "visual_feature_size": [-1, 4096.0],
    "vision_encoder": ["resnet50"],
    "vision_config": ["openai/clip-vit-base-patch32"],
    "vision_weights": ["imagenet", {"name": "imagenet"}],
    "image_transform": [224],
    "num_objects": [-1, True],
    "num_text_phrases": [-2],
    "num_image_phrases": ["3"],
    "hidden_size": [0],
    "num_layers": [0],
    "num_heads": [5],
    "hyperedges": [[], ["global", "global"], ["global", "local"], "global", [["global"]]],
    "hypergraph_scope": ["posts", True],
    "hyperedge_start": ["mean", None],
    "hypergraph_encoder": ["hypergraph"],
    "variational": ["false"],
    "variance_eps": [0.0, float("nan")],
    "safe_start": ["true", 1],
    "sample_nodes": ["true", 1],
    "classifier_dropout": [1.0, -0.1],
    "mentions": ["true", 1],
    "mention_loss_weight": [-1.0],
    "type_loss_weight": [-1.0, "0.1"],
    "mention_types": ["per", ["per", "per"], [1]],
    "type_constraints": ["per", {"peers": [["per", "per"]]}],
    "functional_relations": ["peer", ["peers"]],
    "none_smoothing": [-0.1, 1.0, True],
    "relation_loss_weight": [-1.0, float("nan")],
    "reconstruction_loss_weight": [float("inf")],
    "kl_loss_weight": ["0.1"],
    "calibration_temperature": [0.0, float("nan")],
    "none_bias": [float("nan"), float("inf"), "0.1"],
    "none_label": ["unrelated"],
    "precision_table": [3, {"triples": []}],
    "initializer_range": [0],
    "recipe": ["heuristic"],
}
INVALID = [(field, value) for field, values in INVALID_VALUES.items() for value in values]


@pytest.mark.parametrize(("field", "value"), INVALID, ids=[f"{field}={value!r}" for field, value in INVALID])
def test_an_invalid_value_is_refused_by_name_and_value(field, value, make_config):
    with pytest.raises(ValueError) as caught:
        make_config(**{field: value})
    message = str(caught.value)
    assert field in message
    shown = value[-1] if value in (["global", "local"], [["global"]]) else value  # the one family that is wrong
    assert f"received {shown!r}" in message or f"{field}={value!r}" in message


def test_numbers_of_numpy_are_kept_as_python_s(make_config, tmp_path):
    config = make_config(num_layers=np.int64(3), kl_loss_weight=np.float32(0.5), num_labels=np.int64(4))
    assert (type(config.num_layers), type(config.kl_loss_weight)) == (int, float)
    config.save_pretrained(tmp_path)
    assert VMHANConfig.from_pretrained(tmp_path).num_layers == 3


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_heads": 3}, "num_heads=3, hidden_size=32"),
        ({"hidden_size": 30}, "num_heads=4, hidden_size=30"),
        ({"vision_weights": REFERENCE}, "vision_weights={.*imagenet.*}, vision_encoder=None"),
        ({"vision_encoder": "vgg16_roi_align"}, "vision_encoder='vgg16_roi_align', visual_feature_size=8"),
        ({"vision_encoder": "transformers"}, "vision_encoder='transformers', vision_config=None"),
        ({"vision_config": {"model_type": "dinov2"}}, "vision_encoder=None, vision_config=Dinov2Config"),
        ({"vision_config": {"hidden_size": 32}}, "vision_config .*model_type.* received {'hidden_size': 32}"),
        *(({"hypergraph_encoder": name}, f"hypergraph_encoder='{name}', variational=True") for name in PLAIN_ENCODERS),
        ({"hypergraph_encoder": "variational_gcn", "variational": False}, "'variational_gcn', variational=False"),
        ({"safe_start": True, "hypergraph_encoder": "variational_gcn"}, "safe_start=True, .*'variational_gcn'"),
        ({"hyperedge_start": "entities", "hypergraph_encoder": "mean"}, "hyperedge_start='entities', .*'mean'"),
        ({"sample_nodes": True, "variational": False}, "sample_nodes=True, variational=False"),
        *(
            ({"hypergraph_scope": "post", "hypergraph_encoder": name}, f"hypergraph_scope='post', .*='{name}'")
            for name in NO_PROPAGATION
        ),
        (
            {"hypergraph_scope": "post", "hyperedges": ["pairwise"]},
            r"hypergraph_scope='post', hyperedges=\['pairwise'\]",
        ),
        ({"none_smoothing": 0.1, "relation_loss_weight": 0}, "none_smoothing=0.1, relation_loss_weight=0"),
        ({"type_loss_weight": 0.5}, r"type_loss_weight=0.5, mention_types=\[\], labels=\['peer', 'None'"),
        (
            {"type_loss_weight": 0.5, "mention_types": ["org"], "id2label": {0: "None", 1: "/per/loc/born"}},
            r"type_loss_weight=0.5, mention_types=\['org'\]",
        ),
    ],
)
def test_fields_that_do_not_go_together(fields, match, make_config):
    with pytest.raises(ValueError, match=match):
        make_config(**fields)


RAW = {"entity_representation": "span", "mentions": True}
# field -> (its other value, what must then differ, fields that both sides share)
EFFECTS = {
    "text_config": ("one_layer", "parameters", {}),
    "entity_representation": ("span", "inputs", {}),
    "image_text_visibility": ("isolated", "logits", {}),
    "order_blind": (True, "inputs", {}),
    "visual_feature_size": (0, "parameters", {}),
    "vision_encoder": ("vgg16", "parameters", {"visual_feature_size": 4096}),
    "vision_config": ("one_layer", "parameters", {"vision_encoder": "transformers", "visual_feature_size": 32}),
    "vision_weights": (REFERENCE, "parameters", {"vision_encoder": "vgg16", "visual_feature_size": 4096}),
    "image_transform": ({"size": 32}, "pixels", {"vision_encoder": "vgg16", "visual_feature_size": 4096}),
    "num_objects": (1, "inputs", {}),
    "num_text_phrases": (1, "inputs", {}),
    "num_image_phrases": (1, "inputs", {}),
    "hidden_size": (16, "parameters", {}),
    "num_layers": (3, "parameters", {}),
    "num_heads": (2, "logits", {}),
    "hyperedges": (["global", "intra"], "logits", {}),
    "hypergraph_scope": ("post", "logits", {}),
    "hyperedge_start": ("entities", "logits", {}),
    "hypergraph_encoder": ("variational_gcn", "parameters", {}),
    "variational": (False, "parameters", {}),
    "variance_eps": (0.5, "logits", {}),
    "safe_start": (True, "logits", {}),
    "sample_nodes": (True, "training_logits", {}),
    "classifier_dropout": (0.5, "training_logits", {}),
    "mentions": (True, "parameters", {"entity_representation": "span"}),
    "mention_loss_weight": (0.5, "loss", RAW),
    "type_loss_weight": (0.5, "parameters", {"id2label": {0: "None", 1: "/per/loc/born"}}),
    "mention_types": (["per"], "parameters", RAW),
    "type_constraints": ({"member_of": [["per", "org"]]}, "facts", {"mention_types": ["per", "loc"], **RAW}),
    "functional_relations": (["member_of"], "facts", RAW),
    "none_smoothing": (0.2, "loss", {}),
    "relation_loss_weight": (2.0, "loss", {}),
    "reconstruction_loss_weight": (0.7, "loss", {}),
    "kl_loss_weight": (0.7, "loss", {}),
    "calibration_temperature": (2.0, "answer", {}),
    "none_bias": (1.0, "answer", {}),
    "none_label": ("unrelated", "f1", {"id2label": {0: "None", 1: "peer", 2: "unrelated", 3: "member_of"}}),
    "precision_table": ({"pairs": [[0.4, 0.6, 0.5]]}, "least_score", {}),
    "initializer_range": (0.4, "weights", {}),
    "recipe": ({"selector": "heuristic"}, "choices", {}),
}


def parameters(config):
    with torch.device("meta"):  # shapes only: VGG16 is large
        return {name: tuple(p.shape) for name, p in VMHANForRelationClassification(config).named_parameters()}


@pytest.fixture
def observe(make_processor, posts):
    """What a configuration leads to: `observe(config, kind)`."""

    def observed(config, kind):
        if kind == "parameters":
            return parameters(config)
        if kind == "pixels":
            post = {"text": "a b", "pairs": [{"head": (0, 1), "tail": (2, 3)}], "image": Image.new("RGB", (8, 8))}
            return make_processor(config)(post)["pixel_values"].shape
        if kind == "choices":
            post = {"text": "Ann met Bob in a red car", "pairs": [{"head": (0, 3), "tail": (8, 11)}]}
            return make_processor(config)(post)["text_phrase_tokens"].tolist()
        if kind == "f1":  # with the none label's pairs left out of it
            names, predicted = ["peer", "unrelated", "None", "peer"], ["peer", "unrelated", "peer", "None"]
            return score(names, predicted, labels=config.labels, none_label=config.none_label)["f1"]
        if kind == "least_score":
            return config.precision_table and least_score(config.precision_table["pairs"], 0.5)
        torch.manual_seed(0)
        inputs = make_processor(config)(posts(), label2id=config.label2id)
        if kind == "inputs":
            return {name: value.tolist() for name, value in inputs.items()}
        model = VMHANForRelationClassification(config)
        if kind == "answer":
            pipe = MultimodalRelationClassificationPipeline(model, make_processor(config), device="cpu")
            return [answer["score"] for answer in pipe(posts()[0])]
        if kind == "facts":  # of a model that finds a mention in every word, and sees one relation everywhere
            with torch.no_grad():
                model.mention_head.output.bias[1] += 100.0
                model.classifier.bias[config.label2id["member_of"]] += 100.0
            pipe = MultimodalRelationClassificationPipeline(model, make_processor(config), device="cpu")
            return [(fact["head"], fact["relation"], fact["tail"]) for fact in pipe("ann met bob in paris")]
        if kind == "weights":
            return model.classifier.weight.std().item()
        output = model.train(kind == "training_logits")(**inputs)
        return (output.loss if kind == "loss" else output.logits).tolist()

    return observed


@pytest.mark.parametrize("field", EFFECTS)
def test_the_field_matters(field, make_config, make_text_config, make_vision_config, observe):
    value, kind, shared = EFFECTS[field]
    if value == "one_layer":
        value = (make_text_config if field == "text_config" else make_vision_config)(num_hidden_layers=1)
    shared = {"initializer_range": 0.2, **shared}
    if shared.get("vision_encoder") == "transformers":
        shared["vision_config"] = make_vision_config()
    plain = make_config(**shared)
    changed = make_config(**{**shared, field: value})
    assert observe(plain, kind) != observe(changed, kind)
    assert observe(plain, kind) == observe(make_config(**shared), kind)  # so it is the field that did it


def test_no_field_is_untested():
    assert list(EFFECTS) == list(INVALID_VALUES) == FIELDS


def test_hidden_size_follows_the_text_encoder_unless_given(make_config, make_text_config):
    text_config = make_text_config(hidden_size=48)
    assert make_config(text_config=text_config).hidden_size == 48
    assert make_config(text_config=text_config, hidden_size=16).hidden_size == 16


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("kl_wieght", "kl_loss_weight"), ("num_object", "num_objects"), ("feature_size", "visual_feature_size")],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(typo, meant, make_config):
    with pytest.raises(ValueError, match=rf"no field '{typo}' \(received 1\)\. Did you mean '{meant}'\?"):
        make_config(**{typo: 1})


def test_keys_that_transformers_owns_pass(make_config):
    config = make_config(output_attentions=True, problem_type="single_label_classification", architectures=["X"])
    assert config.output_attentions and config.architectures == ["X"]


@pytest.mark.parametrize(
    ("fields", "labels", "none_label"),
    [
        ({"id2label": {0: "peer", 1: "member_of", 2: "NA"}}, ["peer", "member_of", "NA"], "NA"),
        ({"id2label": {0: "None", 1: "unrelated"}, "none_label": "unrelated"}, ["None", "unrelated"], "unrelated"),
        ({"label2id": {"peer": 1, "None": 0}}, ["None", "peer"], "None"),
        ({"id2label": {"0": "peer", "1": "None"}}, ["peer", "None"], "None"),  # JSON's keys are strings
        ({"num_labels": 3}, ["None", "LABEL_1", "LABEL_2"], "None"),
        ({"num_labels": 2, "none_label": "NA"}, ["NA", "LABEL_1"], "NA"),
    ],
)
def test_labels_and_their_none_label(fields, labels, none_label):
    config = VMHANConfig(**fields)
    assert (config.labels, config.none_label, config.num_labels) == (labels, none_label, len(labels))
    assert config.label2id == {name: i for i, name in enumerate(labels)}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"id2label": {0: "None", 1: "peer"}, "label2id": {"None": 1, "peer": 0}}, "label2id must be the inverse"),
        ({"id2label": {0: "None", 2: "peer"}}, r"id2label must map 0\.\.1 to distinct names"),
        ({"id2label": {0: "None", 1: "None"}}, "distinct names, received {0: 'None', 1: 'None'}"),
        ({"id2label": {0: "None", 1: "peer"}, "num_labels": 3}, r"num_labels must equal .* \(2\), received 3"),
        ({"id2label": {0: "peer", 1: "parent"}}, r"exactly one of \['None'.*received \['peer', 'par"),
        ({"id2label": ["None", "peer"]}, r"id2label must be a dict like .*, received \['None', 'peer'\]"),
        ({"id2label": {0: "None", "first": "peer"}}, r"id2label must map 0\.\.1 to .*'first'"),
        ({"id2label": {0: "None", 1: ["peer"]}}, r"id2label must map 0\.\.1 to distinct names, received .*\['peer'\]"),
        ({"num_labels": 2.0}, "num_labels must be a whole number >= 1, received 2.0"),
    ],
)
def test_labels_that_contradict_each_other(fields, match):
    with pytest.raises(ValueError, match=match):
        VMHANConfig(**fields)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "set_off",
    [
        {"safe_start": True, "hyperedge_start": "entities"},
        {"hypergraph_scope": "post", "hyperedge_start": "entities"},
    ],
)
def test_a_preset_changes_what_the_table_says_and_nothing_else(preset, set_off, make_config):
    """Also where a field was set that some presets take back."""
    full, changed = make_config(**set_off).to_dict(), make_config(preset, **set_off).to_dict()
    expected = {name: value for name, value in PRESETS[preset].items() if full[name] != value}
    assert {name: changed[name] for name in changed if changed[name] != full[name]} == expected


def test_a_preset_takes_fields_and_wins_over_them_and_an_unknown_one_is_refused():
    config = VMHANConfig.from_preset("no_kl", num_layers=3, kl_loss_weight=0.5)
    assert (config.num_layers, config.kl_loss_weight) == (3, 0.0)
    with pytest.raises(ValueError, match=r"'no_kll'.*'no_kl'"):
        VMHANConfig.from_preset("no_kll")


def test_text_config_as_dict_or_object(make_text_config):
    text_config = make_text_config("roberta")
    from_object = VMHANConfig(text_config=text_config)
    from_dict = VMHANConfig(text_config=text_config.to_dict())
    assert type(from_dict.text_config) is type(text_config)
    assert from_object.to_dict() == from_dict.to_dict()
    assert VMHANConfig().text_config.model_type == "bert"
    assert VMHANConfig(text_config={"hidden_size": 64}).text_config.hidden_size == 64


@pytest.mark.parametrize("preset", PRESETS)
def test_the_json_round_trip_is_exact(preset, make_config, tmp_path):
    config = make_config(preset, none_label="None", num_layers=3, hidden_size=16)
    config.save_pretrained(tmp_path)
    for loaded in (VMHANConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is VMHANConfig
        assert isinstance(loaded.text_config, PreTrainedConfig)
        stamps = {"transformers_version": None}  # by what it was saved
        assert loaded.to_dict() | stamps == config.to_dict() | stamps
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "vmhan" and set(FIELDS) <= set(saved)


@pytest.mark.parametrize("model_type", ["clip_vision_model", "dinov3_vit"])
def test_a_vision_backbone_in_the_json_round_trip(model_type, make_config, make_vision_config, tmp_path):
    vision_config = make_vision_config(model_type)
    transform = {"size": 32, "mean": [0.5, 0.5, 0.5]}
    fields = {"vision_encoder": "transformers", "visual_feature_size": 32, "image_transform": transform}
    config = make_config(vision_config=vision_config.to_dict(), **fields)
    assert type(config.vision_config) is type(vision_config)
    config.save_pretrained(tmp_path)
    loaded = VMHANConfig.from_pretrained(tmp_path)
    assert type(loaded.vision_config) is type(vision_config) and loaded.image_transform == transform
    assert loaded.vision_config.to_dict() == config.vision_config.to_dict()
    assert VMHANConfig(**config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_layers": -1}, "num_layers must be a whole number >= 1, received -1"),
        ({"hypergraph_encoder": "hgnn"}, "hypergraph_encoder='hgnn', variational=True"),
        ({"none_label": "unrelated"}, "none_label must be one of the labels .* received 'unrelated'"),
        ({"num_labels": 0}, "num_labels must be .*received 0"),
    ],
)
def test_a_field_given_at_loading_is_checked(fields, match, make_config, make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    for cls in (VMHANConfig, AutoConfig, VMHANForRelationClassification):
        with pytest.raises(ValueError, match=match):
            cls.from_pretrained(tmp_path, **fields)
    saved = make_config().to_dict()
    before = json.dumps(saved, default=str)
    with pytest.raises(ValueError, match=match):
        VMHANConfig.from_dict(saved, **fields)
    assert json.dumps(saved, default=str) == before


def test_fields_given_at_loading_replace_the_saved_ones(make_config, make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    fields = {"kl_loss_weight": 0.5, "text_config": {"attention_probs_dropout_prob": 0.25}}
    config = VMHANConfig.from_pretrained(tmp_path, **fields)
    assert (config.kl_loss_weight, config.num_heads) == (0.5, make_config().num_heads)
    assert (config.text_config.attention_probs_dropout_prob, config.text_config.vocab_size) == (0.25, 400)
    model = VMHANForRelationClassification.from_pretrained(tmp_path, **fields)
    assert (model.config.kl_loss_weight, model.config.text_config.attention_probs_dropout_prob) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("labels", "is_new"),
    [
        ({"num_labels": 2}, True),
        ({"id2label": {0: "None", 1: "peer"}}, True),
        ({"label2id": {"None": 0, "peer": 1}}, True),
        ({"id2label": dict(enumerate(["peer", "None", "member_of", "lives_in"]))}, False),  # renamed
        ({"num_labels": 4}, False),
        ({}, False),
    ],
)
def test_what_was_fitted_for_other_labels_goes_with_them(labels, is_new, make_config):
    """As many labels have the saved classifier; another number has a new one, for which nothing was fitted."""
    fitted = {"calibration_temperature": 2.0, "none_bias": 0.5, "precision_table": {"pairs": [[0.5, 0.5, 0.5]]}}
    fitted |= {"type_constraints": {"member_of": [["per", "org"]]}, "functional_relations": ["member_of"]}
    fresh, saved = VMHANConfig(), make_config(mention_types=["per", "org"], **fitted)
    config = VMHANConfig.from_dict(saved.to_dict(), **labels)
    for name in fitted:
        assert getattr(config, name) == getattr(fresh if is_new else saved, name)


def test_a_text_encoders_folder_is_no_saved_model(make_text_config, tmp_path):
    make_text_config().save_pretrained(tmp_path)
    for cls in (VMHANConfig, VMHANForRelationClassification):
        with pytest.raises(ValueError, match=r"model_type 'bert'.*from_text_encoder"):
            cls.from_pretrained(tmp_path)
