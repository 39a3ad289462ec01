"""The field `selector` of the builders: phrases and objects by rule, of the pair's words and the image alone."""

import json

import pytest
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.jsonl import Posts
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.builders.more import MORE


SENTENCE = "Ann Keller sings at Earls Court with old friends".split()


def mnre(folder, *facts):
    """A folder with these (head, tail, relation, image) of SENTENCE, one a line."""
    (folder / "mnre_txt").mkdir(parents=True)
    lines = []
    for head, tail, relation, image in facts:
        mentions = [{"name": " ".join(SENTENCE[slice(*span)]), "pos": span} for span in (head, tail)]
        fact = {"token": SENTENCE, "h": mentions[0], "t": mentions[1], "img_id": image, "relation": relation}
        lines.append(str(fact))
    (folder / "mnre_txt" / "mnre_train.txt").write_text("\n".join(lines) + "\n")
    return folder


def phrases(folder, **fields):
    """The text phrases of each pair of a folder, as words."""
    posts = build(MNRE, config_name="mnre", data_dir=folder, **fields)["train"]
    return [
        [" ".join(SENTENCE[slice(*span)]) for span in p["text_phrases"] or []] for post in posts for p in post["pairs"]
    ]


def test_text_phrases_are_those_of_the_sentence_whatever_label_line_and_image(tmp_path):
    pair, other = ([0, 2], [4, 6]), ([0, 2], [7, 8])
    ours = mnre(tmp_path / "a", (*pair, "/per/loc/place_of_birth", "1.jpg"), (*other, "None", "1.jpg"))
    theirs = mnre(tmp_path / "b", (*other, "/per/per/peer", "0.jpg"), (*pair, "None", "1.jpg"))
    first, second = phrases(ours, selector="heuristic")
    assert (first, second) == (["sings", "old friends"], ["Earls Court", "sings", "friends"])
    assert phrases(theirs, selector="heuristic") == [second, first]
    turned = mnre(tmp_path / "c", (*reversed(pair), "/per/loc/place_of_birth", "1.jpg"))
    assert phrases(turned, selector="heuristic") == [first]
    assert phrases(ours) == [[], []]


def test_objects_and_image_phrases_are_put_in_order_and_the_data_s_own_choice_stays(tmp_path, more_folder):
    post = build(MORE, config_name="more", data_dir=more_folder, selector="heuristic")["train"][0]
    for pair in post["pairs"]:
        assert sorted([*pair["objects"], pair["tail_object"]]) == list(range(len(post["boxes"])))
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    row = {"text": "Ann met Bob", "image": "a.png", "boxes": [[0, 0, 9, 9], [1, 1, 5, 5]]}
    row |= {"object_labels": ["cup", "Bob"], "image_phrases": ["a cup", "Ann"]}
    pairs = [{"head": "Ann", "tail": "Bob", "relation": "None"}]
    pairs += [pairs[0] | {"objects": [0], "text_phrases": ["Ann met"], "image_phrases": [0]}]
    (tmp_path / "train.jsonl").write_text(json.dumps(row | {"pairs": pairs}) + "\n")
    chosen, given = build(Posts, config_name="jsonl", data_dir=tmp_path, selector="heuristic")["train"][0]["pairs"]
    assert (chosen["objects"], chosen["text_phrases"], chosen["image_phrases"]) == ([1, 0], [[1, 2]], [1, 0])
    assert (given["objects"], given["text_phrases"], given["image_phrases"]) == ([0], [[0, 2]], [0])


@pytest.mark.parametrize(
    ("config", "selector", "message"),
    [
        ("mnre", "openai:m@http://x", "selector: .*heuristic.*'openai:m@http://x'"),
        ("mnre_published_objects", "heuristic", "selector: .*'mnre_published_objects'.*'heuristic'"),
    ],
)
def test_other_selectors_are_refused(tmp_path, config, selector, message):
    folder = mnre(tmp_path / "a", ([0, 2], [4, 6], "None", "1.jpg"))
    with pytest.raises(ValueError, match=message):
        build(MNRE, config_name=config, data_dir=folder, selector=selector)
