"""The pipeline: every form of question and of input gives the model's own answer, and says what it is worth."""

import math
import socket
from contextlib import nullcontext

import datasets
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_vmhan import MultimodalRelationClassificationPipeline, post_encoding
from modeling_vmhan.pipeline_vmhan import TASK


TEXT = "Ann met Bob in Paris with the band"
QUESTION = {"text": TEXT, "head": "Ann", "tail": "Paris"}


@pytest.fixture(scope="module")
def picture():
    return Image.effect_noise((64, 48), 90).convert("RGB")


def scores(answers):
    """Every number of an answer or of a list of them, for comparison."""
    if isinstance(answers, list):
        return torch.cat([scores(answer) for answer in answers])
    worth = answers["uncertainty"]
    numbers = [answers["score"], answers["none_score"], worth["entropy"]] + [
        entry["score"] for entry in answers["top_k"]
    ]
    numbers += [worth[name] for name in ("monte_carlo_score", "mutual_information") if worth[name] is not None]
    return torch.tensor(numbers)


def same(first, second):
    torch.testing.assert_close(scores(first), scores(second), atol=1e-5, rtol=1e-4)


def test_an_answer_is_the_models(pipe, predict, posts):
    post = posts()[0]
    expected = predict(pipe.model, [post]).softmax(dim=-1)
    answers = pipe(post, top_k=None)
    labels = pipe.model.config.labels
    for answer, probabilities in zip(answers, expected, strict=True):
        assert answer["relation"] == labels[int(probabilities.argmax())] == answer["top_k"][0]["relation"]
        assert answer["score"] == pytest.approx(float(probabilities.max()), abs=1e-6)
        assert answer["none_score"] == pytest.approx(float(probabilities[labels.index("None")]), abs=1e-6)
        ranked = [entry["score"] for entry in answer["top_k"]]
        assert ranked == sorted(ranked, reverse=True) and sum(ranked) == pytest.approx(1, abs=1e-5)
        assert {entry["relation"] for entry in answer["top_k"]} == set(labels)
    mentions = [(answer["head"], answer["tail"]) for answer in answers]
    assert mentions == [("Ann", "Bob"), ("Bob", "Zulu band"), ("Paris", "Ann")]


def test_several_pairs_of_a_post_are_one_encoder_pass(make_pipe, posts):
    pipe = make_pipe(model=None)
    pairs = [{"head": "Ann", "tail": "Bob"}, {"head": "Paris", "tail": "Ann"}, {"head": (8, 11), "tail": "the band"}]
    passes = []
    pipe.model.vmhan.text_encoder.register_forward_hook(lambda *_: passes.append(1))
    answers = pipe({"text": TEXT, "pairs": pairs})
    assert len(answers) == 3 and len(passes) == 1
    for pair, answer in zip(pairs, answers):
        same(answer, pipe({"text": TEXT, **pair}))


def test_top_k_and_abstention(pipe):
    answer = pipe(QUESTION, top_k=2)
    assert len(answer["top_k"]) == 2 and not answer["abstained"]
    refused = pipe(QUESTION, abstain_below=min(1.0, answer["score"] + 1e-4))
    assert refused["relation"] is None and refused["abstained"]
    assert refused["score"] == answer["score"] and refused["top_k"][0]["relation"] == answer["relation"]
    assert pipe(QUESTION, abstain_below=answer["score"])["relation"] == answer["relation"]


def test_options_may_be_given_when_the_pipeline_is_made(make_pipe):
    pipe = make_pipe(top_k=1, abstain_below=1.0)
    assert pipe(QUESTION)["abstained"] and len(pipe(QUESTION)["top_k"]) == 1
    assert not pipe(QUESTION, abstain_below=0.0)["abstained"]


def test_the_calibration_temperature_is_used(make_pipe):
    pipe = make_pipe()
    plain = pipe(QUESTION, top_k=None)
    pipe.model.config.calibration_temperature = 3.0
    flat = pipe(QUESTION, top_k=None)
    expected = (torch.tensor([entry["score"] for entry in plain["top_k"]]).log() / 3).softmax(dim=0)
    assert [entry["score"] for entry in flat["top_k"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert flat["relation"] == plain["relation"]
    assert flat["uncertainty"]["entropy"] > plain["uncertainty"]["entropy"]


def test_the_bias_of_the_none_label_is_used(make_pipe):
    pipe = make_pipe()
    config, plain = pipe.model.config, pipe(QUESTION, top_k=None)
    config.none_bias, config.calibration_temperature = 1.3, 2.0
    biased = pipe(QUESTION, top_k=None)
    before, after = ({e["relation"]: e["score"] for e in answer["top_k"]} for answer in (plain, biased))
    bias = torch.tensor([1.3 * (label == config.none_label) for label in config.labels])
    logits = torch.tensor([before[label] for label in config.labels]).log()
    expected = ((logits + bias) / 2).softmax(dim=0)
    assert [after[label] for label in config.labels] == pytest.approx(expected.tolist(), abs=1e-5)
    config.none_bias = 50.0
    answer = pipe(QUESTION)
    assert answer["relation"] == config.none_label and answer["uncertainty"]["monte_carlo_score"] > 0.99


@pytest.mark.parametrize("preset", ["full", "no_vhan"])
def test_uncertainty_is_repeatable_and_bounded(preset, make_pipe):
    pipe = make_pipe(preset)
    worth = pipe(QUESTION)["uncertainty"]
    assert worth == pipe(QUESTION)["uncertainty"] != pipe(QUESTION, seed=1)["uncertainty"]
    assert 0 < worth["mutual_information"] <= worth["entropy"] <= math.log(4)
    many = [pipe(QUESTION, num_samples=4000, seed=seed)["uncertainty"]["entropy"] for seed in (0, 1)]
    assert many[0] == pytest.approx(many[1], abs=0.02)


@pytest.mark.parametrize("preset", ["no_variational", "text_only"])
def test_a_model_without_variances_has_no_mutual_information(preset, make_pipe):
    answer = make_pipe(preset)(QUESTION)
    assert answer["uncertainty"]["mutual_information"] is answer["uncertainty"]["monte_carlo_score"] is None


def test_nothing_is_sampled_unless_it_is_asked_for(pipe, monkeypatch):
    sampled = pipe(QUESTION, num_samples=1)["uncertainty"]
    monkeypatch.setattr("modeling_vmhan.pipeline_vmhan.monte_carlo_probabilities", None)
    answer = type(pipe)(pipe.model, pipe.processor, device="cpu")(QUESTION, top_k=None)
    assert answer["uncertainty"] == pipe(QUESTION, num_samples=0)["uncertainty"]
    assert answer["uncertainty"]["mutual_information"] is answer["uncertainty"]["monte_carlo_score"] is None
    assert answer["uncertainty"]["least_confidence"] == 1 - answer["score"]
    probabilities = torch.tensor([entry["score"] for entry in answer["top_k"]])
    assert answer["uncertainty"]["entropy"] == pytest.approx(torch.special.entr(probabilities).sum().item())
    assert answer["uncertainty"]["entropy"] != sampled["entropy"] and sampled["mutual_information"] is not None


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_iterable_of_questions_gives_the_same_answers(pipe, posts, batch_size):
    """Rows of data sets are questions too: as a whole, streaming, and out of one column."""
    keys = ("id", "tokens", "image_features")
    questions = [{key: post.get(key) for key in keys} | {"pairs": post["pairs"][:1]} for post in posts()]
    for question in questions:
        question["pairs"] = [{"head": pair["head"], "tail": pair["tail"]} for pair in question["pairs"]]
    expected = [pipe(question) for question in questions]
    data = datasets.Dataset.from_list(questions)
    column = datasets.Dataset.from_list([{"post": question} for question in questions])
    lazy = [iter(questions), (q for q in questions), data, data.to_iterable_dataset(), KeyDataset(column, "post")]
    for inputs in (questions, tuple(questions), *lazy):
        answers = pipe(inputs, batch_size=batch_size)
        assert isinstance(answers, list) == isinstance(inputs, (list, tuple))
        for answer, other in zip(answers, expected, strict=True):
            same(answer, other)


def test_worker_processes_open_images_and_tokenize(seeing, picture, posts, tmp_path, monkeypatch):
    """This process then makes no tokens at all, and the answers are those that it gives alone."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        picture.save(path)
    questions = [{**QUESTION, "image": str(path)} for path in paths] + [{"text": TEXT, "head": "Bob", "tail": "Ann"}]
    expected, called, tokenized = [seeing(question) for question in questions], [], post_encoding.tokenized
    monkeypatch.setattr(post_encoding, "tokenized", lambda by, text: called.append(text) or tokenized(by, text))
    same(seeing(questions, batch_size=2, num_workers=2), expected)
    assert called == []
    same(seeing(questions, batch_size=2), expected)
    assert called


def test_pictures_of_a_data_set_are_opened_by_load_image(seeing, picture, tmp_path, monkeypatch):
    """And not by `datasets`, which opens whatever Pillow can: EPS starts Ghostscript."""
    paths = [tmp_path / name for name in ("a.png", "b.eps")]
    for path in paths:
        picture.save(path)
    rows = [{**QUESTION, "image": str(path)} for path in paths]
    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    expected = seeing({**QUESTION, "image": picture})
    own = Image.open
    monkeypatch.setattr(Image, "open", lambda *of, formats: own(*of, formats=formats))  # `datasets` names no formats
    for whole in (data, data.to_iterable_dataset(), data.cast_column("image", datasets.Image(decode=False))):
        answers = iter(seeing(whole, batch_size=1))
        same(next(answers), expected)
        with pytest.raises(ValueError, match="b.eps.* JPEG, PNG"):
            next(answers)


def test_the_limit_of_pixels_is_an_option(seeing, picture, tmp_path):
    picture.save(path := tmp_path / "a.png")
    question = {**QUESTION, "image": str(path)}
    same(seeing(question, max_pixels=64 * 48), seeing(question))
    with pytest.raises(ValueError, match="a.png.*max_pixels=3,071, received 64 x 48"):
        seeing(question, max_pixels=64 * 48 - 1)


def test_a_box_may_be_the_tail(seeing, picture):
    """The same as the processor's `tail_object`, whether the box is new or one of the boxes."""
    box, other = (4, 4, 30, 40), [30.0, 2.0, 60.0, 40.0]
    question = {"text": TEXT, "head": "Ann", "image": picture}
    by_index = seeing({**question, "tail_object": 1, "boxes": [other, list(box)]})
    same(by_index, seeing({**question, "tail": box, "boxes": [other]}))
    same(by_index, seeing({**question, "tail": box, "boxes": [other, list(box)]}))
    assert by_index["tail"] == [4, 4, 30, 40]
    assert (scores(by_index) - scores(seeing({**question, "tail": other, "boxes": [other]}))).abs().max() > 1e-5


def test_a_tail_known_by_its_feature_alone(pipe, object_post):
    answers = pipe(object_post())
    assert [answer["tail"] for answer in answers] == ["object 2", "object 0"]


def test_an_image_for_a_model_without_eyes_is_an_error(pipe, picture):
    with pytest.raises(ValueError, match="image_features.*size 8.*--visual pixels"):
        pipe({**QUESTION, "image": picture})


def test_a_text_only_model_says_that_it_ignores_images(make_pipe, make_model, picture, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_vmhan.asking.warn_once", lambda logger, message: said.append(message))
    blind = make_pipe(model=make_model(visual_feature_size=0))
    same(blind({**QUESTION, "image": picture}), blind(QUESTION))
    assert len(said) == 1 and "visual_feature_size=0" in said[0]


def test_an_image_that_cannot_be_had(seeing, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        seeing({**QUESTION, "image": str(tmp_path / "nowhere.png")})
    with pytest.raises(ValueError, match="file:///etc/hostname"):
        seeing({**QUESTION, "image": "file:///etc/hostname"})


@pytest.mark.parametrize("form", ["{}", {"bytes": None, "path": "{}"}, {"path": "{}"}])
def test_a_url_that_times_out(form, seeing):
    """A server that takes the connection and never answers; and one that may not be reached at all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.png"
        question = {**QUESTION, "image": url if form == "{}" else {**form, "path": url}}
        with pytest.raises(TimeoutError, match="did not arrive within 0.2 s. Raise url_timeout"):
            seeing(question, url_timeout=0.2, allow_private_urls=True)
        with pytest.raises(ValueError, match="allow_private_urls=True"):
            seeing(question)


@pytest.mark.parametrize("name", ["photo:1.png", "2024-01-01 10:30.png", "a:b.png", "Málaga%20 (1)#?.png"])
def test_a_file_whose_name_has_a_colon_is_a_path(name, seeing, picture, tmp_path, monkeypatch):
    picture.save(tmp_path / name, "PNG")
    monkeypatch.chdir(tmp_path)
    same(seeing({**QUESTION, "image": name}), seeing({**QUESTION, "image": picture}))


def test_an_image_as_datasets_stores_it(seeing, picture, tmp_path):
    """`datasets.Image(decode=False)`: bytes, a path, or both, of which the bytes count."""
    picture.save(tmp_path / "x.png")
    path, data = str(tmp_path / "x.png"), (tmp_path / "x.png").read_bytes()
    forms = [{"bytes": data, "path": "nowhere.png"}, {"bytes": data}, {"path": tmp_path / "x.png"}]
    for stored in (path, data):
        column = datasets.Dataset.from_dict({"image": [stored]}).cast_column("image", datasets.Image(decode=False))
        forms.append(column[0]["image"])
    expected = seeing({**QUESTION, "image": picture})
    for answer in seeing([{**QUESTION, "image": form} for form in forms]):
        same(answer, expected)
    post = {"text": TEXT, "pairs": [{"head": (0, 3), "tail": (11, 16)}]}
    pixels = [seeing.processor({**post, "image": form})["pixel_values"] for form in (*forms, path, picture)]
    assert all(torch.equal(each, pixels[-1]) for each in pixels)


@pytest.mark.parametrize("url", ["http://ann:secret@h/x", "http://127.0.0.1:9/x?secret", "ftp://ann:secret@h"])
@pytest.mark.parametrize("form", ["{}", {"bytes": None, "path": "{}"}, {"bytes": "{}", "path": None}, {"url": "{}"}])
def test_an_error_about_an_image_shows_no_secret_of_its_address(form, url, seeing):
    image = url if form == "{}" else {name: value and url for name, value in form.items()}
    with pytest.raises(ValueError, match="post 'p 7'") as caught:
        seeing({**QUESTION, "image": image, "id": "p 7"})
    chain = "".join(str(error) for error in (caught.value, caught.value.__cause__, caught.value.__context__))
    assert "secret" not in chain


@pytest.mark.parametrize("form", ["{}", {"bytes": None, "path": "{}"}])
def test_the_processor_fetches_nothing(form, seeing):
    url = "http://ann:secret@host/x.png?secret"
    post = {"text": TEXT, "pairs": [{"head": (0, 3), "tail": (11, 16)}], "image": form}
    with pytest.raises(ValueError, match="'http://host/x.png.*only the pipeline") as caught:
        seeing.processor({**post, "image": url if form == "{}" else {**form, "path": url}})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "received"),
    [
        ({"bytes": None, "path": None}, "'bytes': 'NoneType', 'path': 'NoneType'"),
        ({"bytes": None, "path": " "}, "'bytes': 'NoneType', 'path': 'str'"),
        ({}, "{}"),
        ({"bytes": "aGVsbG8="}, "'bytes': 'str'"),
        ({"bytes": [1, 2], "path": "x.png"}, "'bytes': 'list', 'path': 'str'"),
        ({"path": 3}, "'path': 'int'"),
        ({"url": "http://ann:secret@h/x"}, "'url': 'str'"),
    ],
)
def test_a_stored_image_without_bytes_or_path_names_its_post(image, received, seeing):
    with pytest.raises(ValueError, match=f"post 'p 7'.*bytes or a path.*{received}"):
        seeing({**QUESTION, "image": image, "id": "p 7"})
    with pytest.raises(ValueError, match=f"bytes or a path.*{received}"):
        seeing.processor({"text": TEXT, "pairs": [{"head": (0, 3), "tail": (11, 16)}], "image": image})


def test_an_explanation_comes_with_the_answer_and_leaves_it_as_it_is(seeing, picture):
    question = {"text": TEXT, "pairs": [{"head": "Ann", "tail": "Bob"}, {"head": "Ann", "tail": (2, 2, 20, 20)}]}
    question |= {"image": picture, "boxes": [[30, 5, 60, 40]], "object_labels": ["stage"], "caption": "a stage"}
    plain, explained = seeing(question), seeing(question, explain=True)
    same(plain, explained)
    assert "explanation" not in plain[0]
    by_pair = [answer["explanation"] for answer in explained]
    kinds = [[node["kind"] for node in explanation["nodes"]] for explanation in by_pair]
    assert kinds[0] == ["head", "tail", "image", "object", "image phrase"]  # not the other pair's tail
    assert kinds[1] == kinds[0]  # its tail is none of its objects
    assert by_pair[1]["nodes"][1]["box"] == [2, 2, 20, 20] and by_pair[0]["nodes"][1]["characters"] == [8, 11]
    for explanation in by_pair:
        assert sum(node["weight"] for node in explanation["nodes"]) == pytest.approx(1, abs=1e-5)
        assert sum(edge["weight"] for edge in explanation["hyperedges"]) == pytest.approx(1, abs=1e-5)
        assert {edge["name"] for edge in explanation["hyperedges"]} >= {"global", "textual", "head-visual"}
        assert isinstance(explanation["picture"], Image.Image)


def test_explanations_of_a_batch_stay_with_their_question(pipe, posts):
    alone = [pipe(post, explain=True) for post in posts()]
    batched = pipe(posts(), batch_size=4, explain=True)
    for first, second in zip(sum(alone, []), sum(batched, []), strict=True):
        nodes = [answer["explanation"]["nodes"] for answer in (first, second)]
        assert [node["text"] for node in nodes[0]] == [node["text"] for node in nodes[1]]
        weights = [torch.tensor([node["weight"] for node in of_answer]) for of_answer in nodes]
        torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"text": "Ann met Ann", "head": "Ann", "tail": "met"}, r"'Ann' is 2 times .*\(0, 3\).*\(8, 11\)"),
        ({**QUESTION, "tail": "Rome"}, "the post, tail: 'Rome' is not in the sentence"),
        (b"Ann met Bob", "a question must be a dict"),
    ],
)
def test_a_bad_question_is_a_clear_error(question, message, pipe):
    with pytest.raises(ValueError, match=message):
        pipe(question)
    with pytest.raises(ValueError, match=message):
        list(pipe([QUESTION, question], batch_size=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": -1}, "num_samples.*received .*-1"),
        ({"top_k": 0}, "top_k.*received .*0"),
        ({"abstain_below": 1.5}, "abstain_below.*received .*1.5"),
        ({"explian": True}, "url_timeout.*received .*explian"),
    ],
)
def test_a_bad_option_is_a_clear_error(options, message, pipe, make_pipe):
    with pytest.raises(ValueError, match=message):
        pipe(QUESTION, **options)
    with pytest.raises(ValueError, match=message):
        make_pipe(model=pipe.model, processor=pipe.processor, **options)


@pytest.mark.parametrize(
    ("defaults", "call", "message"),
    [
        ({}, {"seed": 3}, "seed: .*num_samples.*received seed 3 without"),
        ({"seed": 3}, {}, "seed: .*num_samples.*received seed 3 without"),
        ({"num_samples": 2}, {"seed": 3, "num_samples": 0}, "received seed 3 with num_samples 0"),
        ({"all_pairs": True}, {"min_score": 0.5}, "min_score: .*all_pairs False.*0.5"),
        ({}, {"min_precision": 0.5, "all_pairs": True}, "min_precision: .*all_pairs False.*0.5"),
        ({"num_samples": 2}, {"seed": 3}, None),
        ({"seed": 3}, {"num_samples": 2}, None),
        ({"seed": 3, "num_samples": 2}, {"num_samples": 0}, None),  # the call takes both back
        ({"min_score": 0.5}, {"all_pairs": True}, None),
    ],
)
def test_an_option_that_would_change_nothing_is_an_error(defaults, call, message, make_model, make_processor):
    model = make_model(precision_table={"pairs": [(0.0, 0.9, 1.0)]})
    pipe = MultimodalRelationClassificationPipeline(model, make_processor(model.config), device="cpu", **defaults)
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        pipe(QUESTION, **call)


def test_a_processor_of_another_model_is_refused(make_pipe, make_model, make_processor, tokenizer):
    model = make_model(num_objects=1)
    with pytest.raises(ValueError, match="visual_feature_size 8 against 16, num_objects 1 against 3"):
        make_pipe(model=model, processor=make_processor(num_objects=3, visual_feature_size=16))
    with pytest.raises(ValueError, match="entity_representation 'marker' against 'span'"):
        make_pipe(model=make_model(), processor=make_processor(entity_representation="span"))
    small = make_model()
    small.resize_token_embeddings(50)
    with pytest.raises(ValueError, match=f"tokens 50 against {len(tokenizer)}"):
        make_pipe(model=small)
    with pytest.raises(ValueError, match="processor=.*received None"):
        MultimodalRelationClassificationPipeline(small)


def test_a_training_model_answers_without_chance(make_pipe, make_model):
    model = make_model(classifier_dropout=0.5).train()
    pipe = make_pipe(model=model)
    assert pipe(QUESTION) == pipe(QUESTION)


def test_a_saved_pipeline_answers_the_same(pipe, posts, tmp_path):
    """By its folder alone: the task is read off it, and where the package is installed nothing is to be trusted."""
    pipe.save_pretrained(tmp_path)
    for options in ({}, {"task": TASK}, {"trust_remote_code": True}):
        loaded = pipeline(model=str(tmp_path), device="cpu", **options)
        assert type(loaded) is MultimodalRelationClassificationPipeline and loaded.task == TASK
        for post in posts():
            same(loaded(post, num_samples=4), pipe(post, num_samples=4))
