"""What training chose for a pair the pipeline chooses as well, and the order of boxes changes nothing."""

import random

import pytest
import torch
from PIL import Image
from tiny import LABELS, WORDS, close

from datasets_scripts.builders.mentions import Sentence
from datasets_scripts.nodes.selection import apply_selections
from datasets_scripts.nodes.selection_heuristic import HeuristicSelector
from datasets_scripts.schema import new_pair, new_post, with_hypergraph
from modeling_vmhan.questions import read_question
from modeling_vmhan.recipe import apply_recipe
from modeling_vmhan.selection import choose_by_rule, rank_objects


NAMES = ["Zed", "Quo Vadis", "Rex's", "Žofie", "王芳"]
LABELS_OF_OBJECTS = ["person", "red car", "big stage", "Zed", "sky", ""]
PHRASES = ["a red car", "A red  car", "the big stage", "Zed", "", "two people at night"]
SIZE = 64  # of the pictures
ALL = 1 << 20
HEURISTIC = {"selector": "heuristic"}
PICTURE = Image.effect_noise((SIZE, SIZE), 90).convert("RGB")


def random_post(generator):
    """A raw post with strings and spans of characters, and perhaps a picture with objects."""
    names = generator.sample(NAMES, 3)
    words = names + generator.choices(
        [*WORDS, ",", "#", "’s", "RT", "...", "smiling", "Will"], k=generator.randrange(12)
    )
    generator.shuffle(words)
    text = "".join(word + generator.choice([" ", " ", "  ", "\n", ", "]) for word in words)
    pairs = [dict(zip(("head", "tail"), generator.sample(names, 2))) for _ in range(generator.randrange(1, 4))]
    for pair in pairs:
        if generator.random() < 0.3:
            start = text.index(pair["head"])
            pair["head"] = [start, start + len(pair["head"])]
    post = {"text": text, "pairs": pairs}
    if generator.random() < 0.8:
        boxes = [random_box(generator) for _ in range(generator.randrange(6))]
        post |= {"image": PICTURE, "boxes": boxes + boxes[:1]}
        post["object_labels"] = generator.choices(LABELS_OF_OBJECTS, k=len(post["boxes"]))
        if generator.random() < 0.5:
            post["object_scores"] = [generator.choice([0.25, 0.5, generator.random()]) for _ in post["boxes"]]
        if boxes and generator.random() < 0.3:
            pairs[0].pop("tail")
            pairs[0]["tail_object"] = generator.randrange(len(post["boxes"]))
    if generator.random() < 0.6:
        post["image_phrases"] = generator.choices(PHRASES, k=generator.randrange(5))
    if generator.random() < 0.5:
        post["caption"] = "The image shows a red car near a big stage, and a man smiling at Zed"
    choice = generator.choice(pairs)
    if generator.random() < 0.3:
        choice["objects"] = list(range(min(2, len(post.get("boxes", ())))))
    if generator.random() < 0.2:
        choice["text_phrases"] = []
    return post


def random_box(generator):
    left, top = (generator.uniform(0, SIZE - 10) for _ in range(2))
    return [left, top, left + generator.uniform(2, 9), top + generator.choice([5, generator.uniform(2, 9)])]


def built(raw, recipe):
    """The raw post as the row of a data set that was built with the recipe: of tokens, its numbers in float32."""
    sentence, pairs = Sentence(text=raw["text"]), []
    for pair in raw["pairs"]:
        spans = {role: sentence.span(pair[role], place="", field=role) for role in ("head", "tail") if role in pair}
        pairs.append(new_pair(spans["head"], spans.get("tail", []), "peer") | {**pair, "tail": [], **spans})
    nodes = {name: raw[name] for name in ("object_labels", "image_phrases", "caption", "image") if name in raw}
    for name in ("boxes", "object_scores"):
        nodes |= {name: torch.tensor(raw[name]).tolist()} if raw.get(name) else {}
    post = new_post("a", sentence.tokens, None, pairs, text=raw["text"], **nodes)
    if recipe:
        numbers = dict.fromkeys(("num_text_phrases", "num_image_phrases", "num_objects"), ALL)
        post, _ = apply_selections(post, HeuristicSelector(**numbers).select(post))
    return with_hypergraph(post)


@pytest.fixture(scope="module")
def make_seeing(make_model, make_pipe, make_vision_config):
    """`make_seeing(recipe, **fields)`: a pipeline whose model reads pixels, and two objects a pair."""

    def make(recipe, **fields):
        vision = {"vision_encoder": "transformers", "vision_config": make_vision_config(hidden_size=8)}
        return make_pipe(model=make_model(recipe=recipe, num_objects=2, num_text_phrases=2, **vision, **fields))

    return make


@pytest.mark.parametrize("recipe", [None, HEURISTIC], ids=["none", "heuristic"])
@pytest.mark.parametrize("mode", ["packed", "marker"])
def test_training_and_pipeline_have_the_same_inputs(mode, recipe, make_seeing):
    """Over 500 random posts, tensor by tensor; and the hyperedges of the row are those that the model makes."""
    generator, compared = random.Random(16), 0
    pipe = make_seeing(recipe, entity_representation=mode)
    label2id, processor = {name: i for i, name in enumerate(LABELS)}, pipe.processor
    for _ in range(500 if mode == "packed" else 50):
        raw = random_post(generator)
        row = built(raw, recipe)
        trained = processor(row, label2id=label2id)
        asked = processor.collate([pipe.preprocess(raw)["encoded"]])
        del trained["labels"]
        incidence = trained.pop("incidence")
        assert trained.keys() == asked.keys()
        for name, expected in trained.items():
            assert torch.equal(expected, asked[name]), (name, raw)
        compared += bool(asked["pair_objects"].numel())
        if compared % 20 == 0:
            with torch.no_grad():
                close(pipe.model(**asked, incidence=incidence).logits, pipe.model(**asked).logits)
    assert compared > 20


@pytest.mark.parametrize("recipe", [None, HEURISTIC], ids=["none", "heuristic"])
def test_the_order_of_the_boxes_changes_nothing(recipe, make_seeing):
    generator, pipe, several = random.Random(3), make_seeing(recipe), 0
    for _ in range(60):
        post = random_post(generator)
        if not post.get("boxes") or any("objects" in pair for pair in post["pairs"]):
            continue
        order = generator.sample(range(len(post["boxes"])), len(post["boxes"]))
        names = [name for name in ("boxes", "object_labels", "object_scores") if name in post]
        pairs = [
            pair | ({"tail_object": order.index(pair["tail_object"])} if "tail_object" in pair else {})
            for pair in post["pairs"]
        ]
        turned = {**post, **{name: [post[name][i] for i in order] for name in names}, "pairs": pairs}
        seen = [pipe.preprocess(of) for of in (post, turned)]
        chosen = [
            [[of["question"].post["boxes"][i] for i in pair.objects] for pair in of["encoded"].pairs] for of in seen
        ]
        assert chosen[0] == chosen[1]
        several += any(len(boxes) == 2 for boxes in chosen[0]) and len(post["boxes"]) > 3
        with torch.no_grad():
            logits = [pipe.model(**pipe.processor.collate([of["encoded"]])).logits for of in seen]
        close(*logits)
    assert several > 5


def test_scores_come_before_size_and_size_before_place():
    boxes = [[0, 0, 4, 4], [5, 0, 10, 5], [1, 1, 6, 6], [0, 5, 9, 9]]
    post, pair = {"boxes": boxes}, {"head": (0, 1), "tail": (1, 2)}
    assert rank_objects(post, pair) == [3, 2, 1, 0]
    assert rank_objects({**post, "object_scores": [0.1, 0.5, 0.5, 0.2]}, pair) == [2, 1, 3, 0]
    assert rank_objects(post, pair | {"tail_object": 3}) == [2, 1, 0]
    features = {"object_features": torch.zeros(3, 8), "object_scores": [0.1, 0.1, 0.3]}
    assert rank_objects(features, pair) == [2, 0, 1]  # without boxes in their order
    with pytest.raises(ValueError, match="object_scores: .* 4 boxes, received 1"):
        rank_objects({**post, "object_scores": [0.1]}, pair)


def test_a_choice_stays_and_none_is_one():
    post = {"text": "Zed saw a red car near Rex", "boxes": [[0, 0, 4, 4], [0, 0, 9, 9]], "image": PICTURE}
    post |= {"image_phrases": ["a dog", "red car"], "object_labels": ["dog", "red car"]}
    pair = {"head": (0, 3), "tail": (23, 26)}
    chosen = apply_recipe({**post, "pairs": [pair]}, HEURISTIC)["pairs"][0]
    assert chosen == {**pair, "text_phrases": [(10, 17), (4, 7)], "image_phrases": [0, 1], "objects": [1, 0]}
    given = {**pair, "text_phrases": [], "image_phrases": [1], "objects": []}
    assert apply_recipe({**post, "pairs": [given]}, HEURISTIC)["pairs"] == [given]
    assert apply_recipe({**post, "pairs": [pair]}, None)["pairs"] == [{**pair, "objects": [1, 0]}]
    of_tokens = {**post, "tokens": post["text"].split(), "pairs": [{"head": (0, 1), "tail": (6, 7)}]}
    assert (
        apply_recipe(of_tokens, HEURISTIC)["pairs"][0]["text_phrases"]
        == choose_by_rule(of_tokens, of_tokens["pairs"][0])["text_phrases"]
    )


def test_a_choice_is_made_once():
    """Of what was chosen nothing is left to choose: not even for a box that is another pair's tail alone."""
    pairs = [{"head": "Zed", "tail": "Rex"}, {"head": "Zed", "tail": [0, 0, 9, 9]}]
    post = {"text": "Zed saw Rex", "boxes": [[0, 0, 4, 4]], "object_labels": ["dog"], "object_scores": [0.5]}
    post["pairs"] = pairs
    post |= {"image": PICTURE, "caption": "a dog"}
    post = read_question(post).post
    chosen = apply_recipe(post, HEURISTIC)
    assert [pair["objects"] for pair in chosen["pairs"]] == [[0], [0, 1]]
    assert [pair["image_phrases"] for pair in chosen["pairs"]] == [[0], [0]]  # the caption is the one phrase
    assert apply_recipe(chosen, HEURISTIC) == chosen


def test_what_no_model_sees_is_not_chosen():
    post = {"text": "Zed saw Rex", "boxes": [[0, 0, 4, 4]], "pairs": [{"head": (0, 3), "tail": (8, 11)}]}
    assert apply_recipe(post, None)["pairs"][0]["objects"] == []  # there is no image
    assert apply_recipe({**post, "image": PICTURE}, None)["pairs"][0]["objects"] == [0]


@pytest.mark.parametrize(("number", "phrases"), [("all", ["man", "red car", "night"]), (2, ["man", "red car"])])
def test_phrases_of_a_caption_are_those_of_the_training(number, phrases):
    post = {
        "text": "Zed saw Rex",
        "caption": "A man in a red car at night",
        "pairs": [{"head": (0, 3), "tail": (8, 11)}],
    }
    assert apply_recipe(post, {"caption_phrases": number})["image_phrases"] == phrases
    named = {**post, "image_phrases": ["a dog"]}
    assert apply_recipe(named, {"caption_phrases": number})["image_phrases"] == ["a dog"]


@pytest.mark.parametrize("selector", ["llm:llama3,llava", "spacy:en_core_web_sm"])
def test_a_rule_stands_in_for_what_does_not_run_here_with_one_warning(selector, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_vmhan.recipe.warn_once", lambda logger, message: said.append(message))
    post = {"text": "Zed saw a red car near Rex", "pairs": [{"head": (0, 3), "tail": (23, 26)}]}
    assert apply_recipe(post, {"selector": selector}) == apply_recipe(post, HEURISTIC)
    assert len(said) == 1 and repr(selector) in said[0]


def test_a_recipe_is_saved_with_model_and_processor(make_seeing, tmp_path):
    recipe = {"detector": "torchvision:x", "detector_options": {"max_objects": 5}, **HEURISTIC}
    pipe = make_seeing(recipe)
    pipe.save_pretrained(tmp_path)
    assert type(pipe.model.config).from_pretrained(tmp_path).recipe == recipe
    assert type(pipe.processor).from_pretrained(tmp_path).recipe == recipe
    pipe.processor.recipe = None
    with pytest.raises(ValueError, match="recipe .*torchvision:x.* against None"):
        type(pipe)(pipe.model, pipe.processor)
