"""transformers' detectors: how phrases are told apart, what a folder must hold, and the errors when it does not."""

import shutil

import detectors
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from datasets_scripts.detection.detectors import make_detector
from datasets_scripts.detection.transformers_detector import best_phrases, phrase_of_token


def without(detr, folder, *names, half=False):
    """A copy of the detector's folder without the weights that begin with `names`, or, for None, without any file."""
    shutil.copytree(detr, folder, dirs_exist_ok=True)
    weights = folder / "model.safetensors"
    state = load_file(weights)
    weights.unlink()
    if None not in names:
        kept = {
            name: tensor.half() if half else tensor for name, tensor in state.items() if not name.startswith(names)
        }
        save_file(kept, weights, metadata={"format": "pt"})
    return f"transformers:{folder}"


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
    halves = [0.0, 0.3, 0.3, 0.0, 0.9, 0.0, 0.0, 0.0]  # two halves of phrase 0 against phrase 1
    no_words = [0.9, 0.0, 0.4, 0.8, 0.1, 0.0, 0.0, 0.9]  # what is no word counts for nothing
    scores, phrases = best_phrases(torch.tensor([halves, no_words]), phrase)
    assert phrases.tolist() == [1, 0] and torch.equal(scores, torch.tensor([0.9, 0.4]))


def test_random_weights_need_no_weights_in_the_folder(detr, tmp_path):
    drawn = make_detector(f"{without(detr, tmp_path, None)}?weights=random:1", device="cpu")
    own = make_detector(f"transformers:{detr}", device="cpu")
    assert own.description["model"] == detr.name
    assert own.description["weights_sha256"] != drawn.description["weights_sha256"]


def test_half_precision_files_are_run_in_full_precision(detr, tmp_path):
    detector = make_detector(without(detr, tmp_path, half=True), device="cpu")
    assert {parameter.dtype for parameter in detector.network.parameters()} == {torch.float32}


def test_owl_has_a_lower_threshold_of_its_own(tmp_path):
    owl = make_detector(f"transformers:{detectors.save_owlv2(tmp_path)}", device="cpu")
    assert owl.description["score_threshold"] == 0.1
    assert make_detector(f"transformers:{tmp_path}?score_threshold=0.3").description["score_threshold"] == 0.3


def test_what_is_no_detector_and_weights_that_are_missing(tmp_path, detr):
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="model: .* of type 'bert'"):
        make_detector(f"transformers:{tmp_path / 'bert'}")
    with pytest.raises(OSError, match="model: .*received 'nothing/here'"):
        make_detector("transformers:nothing/here")
    with pytest.raises(OSError, match=str(tmp_path)):
        make_detector(without(detr, tmp_path / "none", None))
    with pytest.raises(ValueError, match="DetrForObjectDetection.*class_labels_classifier"):  # and not random ones
        make_detector(without(detr, tmp_path / "headless", "class_labels_classifier"))
