"""transformers' detectors: how phrases are told apart, what a folder must hold, and the errors when it does not."""

import functools
import shutil

import detectors
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from datasets_scripts.detection.detectors import make_detector
from datasets_scripts.detection.transformers_detector import best_phrases, phrase_of_token


copy = functools.partial(shutil.copytree, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def detr(tmp_path_factory):
    return detectors.save_detr(tmp_path_factory.mktemp("detr"))


def test_which_phrase_a_token_is_in():
    cls, sep, stop = 101, 102, 1012
    tokens = torch.tensor([cls, 5, 6, stop, 7, stop, 8, 9, 9, stop, sep])
    assert phrase_of_token(tokens, stop).tolist() == [-1, 0, 0, -1, 1, -1, 2, 2, 2, -1, -1]
    cut = torch.tensor([cls, 5, stop, 7, sep])  # truncated: the last stop is missing
    assert phrase_of_token(cut, stop).tolist() == [-1, 0, -1, 1, -1]


def test_a_box_is_named_by_its_likeliest_token():
    phrase = torch.tensor([-1, 0, 0, -1, 1, -1, -1])
    probabilities = torch.tensor(
        [
            [0.0, 0.3, 0.3, 0.0, 0.9, 0.0, 0.0, 0.0],  # two halves of phrase 0 against phrase 1
            [0.9, 0.0, 0.4, 0.8, 0.1, 0.0, 0.0, 0.9],  # what is no word counts for nothing
        ]
    )
    scores, phrases = best_phrases(probabilities, phrase)
    assert phrases.tolist() == [1, 0] and torch.equal(scores, torch.tensor([0.9, 0.4]))


def test_random_weights_need_no_weights_in_the_folder(detr, tmp_path):
    copy(detr, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    drawn = make_detector(f"transformers:{tmp_path}?weights=random:1", device="cpu")
    own = make_detector(f"transformers:{detr}", device="cpu")
    assert own.description["model"] == detr.name
    assert own.description["weights_sha256"] != drawn.description["weights_sha256"]


def test_half_precision_files_are_run_in_full_precision(detr, tmp_path):
    copy(detr, tmp_path)
    state = load_file(detr / "model.safetensors")
    halved = {name: tensor.half() for name, tensor in state.items()}
    save_file(halved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    detector = make_detector(f"transformers:{tmp_path}", device="cpu")
    assert {parameter.dtype for parameter in detector.network.parameters()} == {torch.float32}


def test_owl_has_a_lower_threshold_of_its_own(tmp_path):
    owl = make_detector(f"transformers:{detectors.save_owlv2(tmp_path)}", device="cpu")
    assert owl.description["score_threshold"] == 0.1
    assert make_detector(f"transformers:{tmp_path}?score_threshold=0.3").description["score_threshold"] == 0.3


def test_missing_weights_are_an_error_and_not_random(detr, tmp_path):
    copy(detr, tmp_path)
    state = load_file(detr / "model.safetensors")
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("class_labels_classifier")}
    save_file(headless, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"all weights of a DetrForObjectDetection.*class_labels_classifier"):
        make_detector(f"transformers:{tmp_path}")


def test_not_a_detector(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model: .* of type 'bert'"):
        make_detector(f"transformers:{tmp_path}")


def test_weights_that_are_not_there(tmp_path, detr):
    with pytest.raises(OSError, match="model: .*received 'nothing/here'"):
        make_detector("transformers:nothing/here")
    copy(detr, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=str(tmp_path)):
        make_detector(f"transformers:{tmp_path}")
