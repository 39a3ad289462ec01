"""A saved folder's `handler.py`: started as Inference Endpoints do, and what it takes and refuses."""

import base64
import io
import json
import tomllib

import pytest
from paths import ROOT
from PIL import Image

from modeling_vmhan.handler import PARAMETERS, REQUIREMENTS, EndpointHandler, parameters_of, received


POST = {"text": "Ann met Bob in Paris", "head": "Ann", "tail": "Paris"}

# What huggingface_inference_toolkit does at its start and at each request, where our package is not installed.
ENDPOINT = """
import importlib.util, json, sys
from pathlib import Path

assert importlib.util.find_spec("modeling_vmhan") is None
folder, requests = sys.argv[1], json.load(open(sys.argv[2]))
spec = importlib.util.spec_from_file_location("handler.EndpointHandler", Path(folder) / "handler.py")
sys.path.insert(0, folder)
sys.modules["handler.EndpointHandler"] = handler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(handler)
endpoint = handler.EndpointHandler(folder)
assert type(endpoint.pipe).__module__.startswith("transformers_modules."), type(endpoint.pipe).__module__
print(json.dumps([endpoint(request) for request in requests]), file=open(sys.argv[3], "w"))
"""


@pytest.fixture(scope="module")
def picture():
    file = io.BytesIO()
    Image.effect_noise((64, 48), 90).save(file, format="PNG")
    return file.getvalue()


def test_an_endpoint_answers_as_the_pipeline_does(seeing_folder, seeing, picture, run_stranger, tmp_path):
    encoded = base64.b64encode(picture).decode()
    boxed = {"text": POST["text"], "head": "Bob", "tail": [0, 0, 20, 20]}
    requests = [
        {"inputs": {**POST, "image": encoded}},
        {"inputs": [{**boxed, "image": f"data:image/png;base64,{encoded}"}, POST], "parameters": {"top_k": 1}},
        {"inputs": {"text": POST["text"], "mentions": ["Ann", "Bob"]}, "parameters": {"all_pairs": True}},
        {"inputs": {**POST, "image": encoded}, "parameters": {"explain": True}},
        {"inputs": [POST, {**POST, "image": "/etc/passwd"}, {**POST, "head": "Eve", "id": 7}, POST]},
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    run_stranger(ENDPOINT, seeing_folder, tmp_path / "requests.json", tmp_path / "answers.json")
    one, two, facts, explained, mixed = json.loads((tmp_path / "answers.json").read_text())

    assert one["score"] == pytest.approx(seeing({**POST, "image": picture})["score"], abs=1e-4)
    expected = seeing([{**boxed, "image": picture}, POST], top_k=1)
    assert [answer["score"] for answer in two] == pytest.approx([answer["score"] for answer in expected], abs=1e-4)
    assert two[0]["tail"] == [0, 0, 20, 20] and len(two[0]["top_k"]) == 1
    assert {fact["head"] for fact in facts} | {fact["tail"] for fact in facts} == {"Ann", "Bob"}
    drawn = Image.open(io.BytesIO(base64.b64decode(explained["explanation"]["picture"])))
    assert drawn.format == "PNG" and explained["explanation"]["nodes"]
    assert [answer.get("index") for answer in mixed] == [None, 1, 2, None]
    assert "image" in mixed[1]["error"] and "/etc/passwd" in mixed[1]["error"]
    assert "Eve" in mixed[2]["error"] and mixed[2]["id"] == 7
    assert mixed[0]["relation"] == mixed[3]["relation"] is not None


@pytest.mark.parametrize(
    ("image", "taken"),
    [
        ("https://example.org/a.png", "https://example.org/a.png"),
        (" HTTP://example.org/a.png", " HTTP://example.org/a.png"),
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("aGVs\nbG8=", b"hello"),
        (None, None),
    ],
)
def test_an_image_is_an_address_or_base64(image, taken):
    assert received({"text": "a", "image": image}) == {"text": "a", "image": taken}


@pytest.mark.parametrize(
    "image", ["photo.png", "/etc/passwd", "file:///etc/passwd", "ftp://host/a.png", "data:,x", " ", 7, ["a"]]
)
def test_another_image_is_refused_and_no_path_is_opened(image):
    with pytest.raises(ValueError, match="image") as raised:
        received({"image": image})
    assert repr(image) in str(raised.value)
    with pytest.raises(ValueError, match="path"):
        received({"image": {"path": "/etc/passwd"}})


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"allow_private_urls": True}, "allow_private_urls"),
        ({"mentions": "dslim/bert-base-NER"}, "dslim"),
        ({"max_pixels": 10**9}, "max_pixels"),
        ([1], r"\[1\]"),
    ],
)
def test_what_the_owner_decides_is_no_parameter(parameters, shown):
    with pytest.raises(ValueError, match=rf"parameters.*{shown}"):
        parameters_of(parameters)


def test_every_parameter_is_an_option_of_the_pipeline(pipe, monkeypatch):
    values = {"all_pairs": True, "explain": True, "type_constraints": False, "num_samples": 2, "seed": 1, "top_k": 1}
    monkeypatch.setattr(pipe.model.config, "precision_table", {"pairs": [[0.5, 0.5, 0.5]]})
    assert len(pipe._sanitize_parameters(**{name: values.get(name, 0.5) for name in PARAMETERS})) == 3


@pytest.mark.parametrize("data", [POST, {"inputs": None}, ["a"]])
def test_a_request_without_inputs_is_an_error(data):
    handler = object.__new__(EndpointHandler)
    with pytest.raises(ValueError, match="inputs"):
        handler(data)


def test_the_folder_s_requirements_are_this_project_s(seeing_folder):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(REQUIREMENTS) <= set(project)
    assert (seeing_folder / "requirements.txt").read_text().splitlines() == list(REQUIREMENTS)
