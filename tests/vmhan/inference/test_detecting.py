"""vmhan predict finds the objects of pictures that come without boxes, with the training data's detector."""

import json

import pytest
from detectors import picture, save_detr

from datasets_scripts.detection.base import Detection
from datasets_scripts.detection.detectors import make_detector
from vmhan.inference import command as predict_command
from vmhan.inference.detecting import DetectingPipeline, detector_of


QUESTION = {"text": "Ann met Bob in Paris", "head": "Ann", "tail": "Bob"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model, make_processor, make_vision_config):
    """A saved model whose recipe names a tiny DETR, and a picture."""
    folder = tmp_path_factory.mktemp("detecting")
    recipe = {"detector": f"transformers:{save_detr(folder / 'detr')}", "detector_options": {"max_objects": 2}}
    recipe["detector_options"]["score_threshold"] = 0.0
    vision = {"vision_encoder": "transformers", "vision_config": make_vision_config(hidden_size=8)}
    model = make_model(recipe=recipe, **vision)
    model.save_pretrained(folder / "model")
    make_processor(model.config).save_pretrained(folder / "model")
    picture(48, 40).save(folder / "0.png")
    return folder


def arguments_of(folder, *flags):
    source = folder / "in.jsonl"
    rows = [{**QUESTION, "image": "0.png"}, QUESTION, {**QUESTION, "image": "no.png"}]
    rows += [{**QUESTION, "image": "0.png", "boxes": [[0, 0, 9, 9]]}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(folder / "model"), str(source), "--device", "cpu", *map(str, flags)]


def recipe_of_model(folder):
    return json.loads((folder / "model" / "config.json").read_text())["recipe"]


def test_the_recorded_detector_runs_where_there_are_no_boxes(folder, tmp_path):
    """As if the boxes that it finds, with labels and scores, had been given."""
    recorded = recipe_of_model(folder)
    detector = make_detector(recorded["detector"], **recorded["detector_options"], device="cpu")
    (found,) = detector.detect([picture(48, 40)])
    assert len(found) == 2
    for name, flags in (("recorded", ()), ("none", ("--detector", "none"))):
        assert predict_command.main(arguments_of(folder, "--output", tmp_path / f"{name}.jsonl", *flags)) == 1
    with_boxes, without = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("recorded", "none")
    )
    pipe = predict_command.load_pipeline(
        predict_command.parse_arguments(arguments_of(folder, "--output", tmp_path / "x.jsonl"))
    ).pipe
    boxes = {"boxes": [d.box for d in found], "object_labels": [d.label for d in found]}
    given = pipe({**QUESTION, "image": folder / "0.png", **boxes, "object_scores": [d.score for d in found]})
    assert [row["row"] for row in with_boxes] == [1, 2, 4]
    assert with_boxes[0]["score"] == pytest.approx(given["score"], abs=1e-6)
    assert with_boxes[0]["score"] != pytest.approx(without[0]["score"], abs=1e-6)
    assert [row["score"] for row in with_boxes[1:]] == pytest.approx([row["score"] for row in without[1:]])
    (error,) = (json.loads(line) for line in (tmp_path / "recorded.errors.jsonl").read_text().splitlines())
    assert error["row"] == 3 and "no.png" in error["reason"]


def test_a_run_goes_on_with_its_own_detector_only(folder, tmp_path):
    output = tmp_path / "out.jsonl"
    parsed = predict_command.parse_arguments(arguments_of(folder, "--output", output))
    pipe = predict_command.load_pipeline(parsed)
    other = predict_command.fingerprint(parsed, pipe.pipe)
    own = predict_command.fingerprint(parsed, pipe)
    assert {name for name in own if own[name] != other[name]} == {"detector"}
    assert own["detector"]["max_objects"] == 2 and other["detector"] is None
    assert json.loads(json.dumps(own)) == own


@pytest.mark.parametrize(
    ("wanted", "fields", "message"),
    [
        ("recorded", {"recipe": None}, "--detector recorded: .*recipe=None"),
        ("nobody:x", {}, "--detector nobody:x: .*nobody:x"),
        (None, {"recipe": {"detector": "transformers:/no/such"}}, r"--detector recorded \(transformers:/no/such\)"),
    ],
)
def test_a_detector_that_cannot_be_had_is_named(wanted, fields, message, folder, make_config, make_vision_config):
    vision = {"vision_encoder": "transformers", "vision_config": make_vision_config(hidden_size=8)}
    config = make_config(**{"recipe": recipe_of_model(folder), **vision, **fields})
    with pytest.raises(ValueError, match=message):
        detector_of(wanted, config, device="cpu")


@pytest.mark.parametrize("wanted", [None, "recorded", "torchvision:fasterrcnn_resnet50_fpn_v2"])
@pytest.mark.parametrize("fields", [{"num_objects": 0}, {"vision_encoder": None, "vision_config": None}])
def test_a_model_that_sees_no_objects_seeks_none(wanted, fields, folder, make_config, make_vision_config, caplog):
    vision = {"vision_encoder": "transformers", "vision_config": make_vision_config(hidden_size=8)}
    config = make_config(**{"recipe": recipe_of_model(folder), **vision, **fields})
    assert detector_of(wanted, config, device="cpu") is None
    assert ("no objects" in caplog.text) is (wanted is not None)
    assert detector_of("none", config, device="cpu") is None and detector_of(None, make_config(), device="cpu") is None


@pytest.mark.parametrize(
    ("question", "queries"),
    [
        (QUESTION, ["Ann", "Bob"]),
        ({**QUESTION, "image_phrases": ["a dog", "Ann"]}, ["a dog", "Ann"]),
        ({"text": "Ann met Bob", "pairs": [{"head": [0, 3], "tail": "Bob"}, {"head": [0, 3], "tail": [1, 2, 3, 4]}]},
         ["Ann", "Bob"]),
        ({"tokens": ["Ann", "B", "met"], "head": [0, 2], "tail": [2, 3]}, ["Ann B", "met"]),
        ({"text": "Ann met Bob", "mentions": ["Bob", [0, 3]]}, ["Bob", "Ann"]),
    ],
)  # fmt: skip
def test_a_detector_of_texts_is_asked_for_phrases_or_mentions(question, queries, pipe):
    class Asked:
        text_conditioned = True

        def detect(self, images, asked):
            assert asked == [queries] and images[0].size == (48, 40)
            return [[Detection((0, 0, 4, 4), 0.5, "dog")]]

    (found,) = DetectingPipeline(pipe, Asked()).with_objects([{**question, "image": picture(48, 40)}])
    assert (found["boxes"], found["object_labels"], found["object_scores"]) == ([[0, 0, 4, 4]], ["dog"], [0.5])


@pytest.mark.parametrize(
    "question",
    [
        "no dict",
        QUESTION,
        {**QUESTION, "image": "/no/such.png"},
        *({**QUESTION, "image": picture(9, 9), "boxes": boxes} for boxes in ([], 5, [[0, 0, 4, 4]])),
    ],
    ids=["raw", "no picture", "gone", "no objects", "wrong", "objects"],
)
def test_what_has_no_picture_to_look_at_stays_as_it_is(question, pipe):
    class Nothing:
        text_conditioned = False

        def detect(self, images, asked):
            return [[] for _ in images]

    assert DetectingPipeline(pipe, Nothing()).with_objects([question]) == [question]
