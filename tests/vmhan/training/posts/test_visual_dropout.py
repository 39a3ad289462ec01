"""Visual node dropout: nested shares, any order, places left empty, and a model that sees no more than that."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_vmhan.selection import rank_objects
from vmhan.training.posts.visual_dropout import VisualDropoutCollator, drop_visual_nodes, kept_nodes, visual_nodes


SHARES = st.floats(0, 1)


@st.composite
def any_post(draw):
    """A post with 0 to 6 objects, 0 to 4 phrases (some blank), and pairs that choose among them or do not."""
    num_objects, phrases = draw(st.integers(0, 6)), draw(st.lists(st.sampled_from(["red car", "car", " ", "sky"])))
    objects, texts = st.sampled_from(range(num_objects or 1)), st.sampled_from(range(len(phrases) or 1))
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        pair = {"head": [0, 1], "tail": [1, 2], "tail_object": -1}
        if num_objects and draw(st.booleans()):
            pair |= {"tail": [], "tail_object": draw(objects)}
        pair["objects"] = draw(st.none() | st.lists(objects, unique=True)) if num_objects else []
        pair["image_phrases"] = draw(st.lists(texts, unique=True)) if phrases else []
        pairs.append(pair)
    return {
        "id": draw(st.text(max_size=3)),
        "tokens": ["Ann", "Bob"],
        "image_features": draw(st.sampled_from([None, [0.5, 0.5]])),
        "object_features": [[float(i), 0.0] for i in range(num_objects)],
        "caption": draw(st.sampled_from([None, "", "a red car", "a red car under the sky , car by car"])),
        "image_phrases": phrases,
        "pairs": pairs,
    }


@given(any_post(), SHARES, SHARES)
def test_what_stays_at_a_share_stays_at_a_larger_one_and_all_at_one(post, one, other):
    assert kept_nodes(post, min(one, other)) <= kept_nodes(post, max(one, other)) <= set(visual_nodes(post))
    assert drop_visual_nodes(post, 1.0) == post and kept_nodes(post, 1.0) == set(visual_nodes(post))
    tails = {("object", pair["tail_object"]) for pair in post["pairs"] if pair["tail_object"] >= 0}
    nothing = drop_visual_nodes(post, 0.0)
    assert kept_nodes(post, 0.0) == tails and nothing["image_features"] is None
    assert not any((nothing["caption"] or "").split()) and not any(p.strip() for p in nothing["image_phrases"])


@given(any_post(), SHARES)
def test_a_node_that_goes_leaves_its_place_empty(post, share):
    """Places, tails, boxes and everything textual are as before; the post itself is not changed, twice is as once."""
    before, kept = copy.deepcopy(post), kept_nodes(post, share)
    fewer = drop_visual_nodes(post, share)
    assert post == before
    for name in ("id", "tokens", "object_features"):
        assert fewer[name] == post[name]
    for new, old in zip(fewer["pairs"], post["pairs"], strict=True):
        assert all(new[name] == old[name] for name in ("head", "tail", "tail_object"))
        chosen, left = (rank_objects(post, old) if o is None else o for o in (old["objects"], new["objects"]))
        assert list(left) == [index if ("object", index) in kept else -1 for index in chosen]
    stay = [p for i, p in enumerate(fewer["image_phrases"]) if p.strip() and ("image phrase", i) in kept]
    assert stay == [p for p in fewer["image_phrases"] if p.strip()]
    not_objects = [{node for node in nodes if node[0] != "object"} for nodes in (kept, kept_nodes(fewer, share))]
    assert not_objects[0] == not_objects[1]


PAIR = {"head": [0, 1], "tail": [1, 2]}
FIVE = {"image_features": [1.0], "object_features": [[1.0]] * 2, "image_phrases": ["a", "b"], "pairs": [PAIR]}


def test_about_the_share_stays_posts_and_seeds_differ_and_the_order_does_not_matter():
    posts = [{"id": f"p{i}", **FIVE} for i in range(400)]
    kept = [kept_nodes(post, 0.25) for post in posts]
    assert sum(map(len, kept)) / (5 * len(posts)) == pytest.approx(0.25, abs=0.03)
    assert len(set(map(frozenset, kept))) > 20
    assert kept != [kept_nodes(post, 0.25, seed=1) for post in posts]
    collate = VisualDropoutCollator(lambda batch: {post["id"]: post for post in batch}, 0.5)
    assert collate(posts) == collate(posts[::-1]) == {post["id"]: drop_visual_nodes(post, 0.5) for post in posts}


def test_the_words_of_a_phrase_leave_the_caption_with_it():
    post = {"id": "a", "caption": "a red car near a redcar , red car", "image_phrases": ["red car", "redcar"]}
    post["pairs"] = [{"head": [0, 1], "tail": [1, 2], "image_phrases": [1, 0]}]
    draws = {share: kept_nodes(post, share) for share in (i / 50 for i in range(51))}
    share = next(share for share, kept in draws.items() if len(kept) == 1)
    fewer = drop_visual_nodes(post, share)
    if ("image phrase", 0) in draws[share]:
        assert fewer["caption"] == "a red car near a , red car" and fewer["image_phrases"] == ["red car", ""]
    else:
        assert fewer["caption"] == "a near a redcar ," and fewer["image_phrases"] == ["", "redcar"]
    assert fewer["pairs"][0]["image_phrases"] == [1, 0]
    assert drop_visual_nodes(post, 0.0)["pairs"][0]["image_phrases"] == []


@pytest.mark.parametrize(
    ("caption", "phrase", "left"),
    [
        ("कमला और कमल", "कमल", "कमला और"),
        ("cafe\u0301 , cafe , cafe", "cafe", "cafe\u0301 , ,"),
        ("一辆红车在街上", "红车", "一辆 在街上"),
        ("a cafe\u0301", "café", "a"),
    ],
)
def test_the_words_that_leave_a_caption_are_whole_in_any_script(caption, phrase, left):
    post = {"id": "a", "caption": caption, "image_phrases": [phrase, "x"], "pairs": [PAIR]}
    draws = (kept_nodes(post, i / 50) for i in range(51))
    share = next(i / 50 for i, kept in enumerate(draws) if kept == {("image phrase", 1)})
    assert drop_visual_nodes(post, share)["caption"] == left


def test_an_image_of_pixels_stays_with_an_object_that_is_cut_out_of_it():
    post = {"id": "a", "image": "a.png", "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]]}
    post["pairs"] = [{"head": [0, 1], "tail": [], "tail_object": 1}]
    fewer = drop_visual_nodes(post, 0.0)
    assert fewer["image"] == "a.png" and fewer["pairs"][0]["objects"] == [-1]
    post["pairs"] = [{"head": [0, 1], "tail": [1, 2]}]
    assert drop_visual_nodes(post, 0.0)["image"] is None


@pytest.mark.parametrize("share", [-0.1, 1.5, 25, float("nan")])
def test_a_share_that_is_no_fraction_is_an_error(share):
    for drop in (lambda: drop_visual_nodes({"id": "a", **FIVE}, share), lambda: VisualDropoutCollator(list, share)):
        with pytest.raises(ValueError, match=f"share .* {share}"):
            drop()


def test_a_post_without_id_is_an_error():
    with pytest.raises(ValueError, match=r"post\['id'\]"):
        drop_visual_nodes({"pairs": []}, 0.5)


@pytest.fixture
def nodes_of(make_model, encode):
    """`nodes_of(post)`: which nodes of each pair's graph are there and visual; the graph has room for every one."""
    model = make_model(num_objects=4, num_image_phrases=3)

    def nodes(post):
        with torch.no_grad():
            output = model.vmhan(**{k: v for k, v in encode(model, [post]).items() if k != "labels"})
        return output.node_mask & output.node_is_visual

    return nodes


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_model_has_the_visual_nodes_that_stay_and_no_other(share, nodes_of, posts):
    for post in posts():
        kept = kept_nodes(post, share)
        for pair, mask in zip(post["pairs"], nodes_of(drop_visual_nodes(post, share)), strict=True):
            chosen = pair.get("objects", range(len(post.get("object_features", []))))
            objects = {("object", index) for index in chosen}
            expected = {node for node in kept if node[0] != "object" or node in objects}
            assert int(mask.sum()) == len(expected)


def test_without_any_visual_node_the_model_answers_as_without_the_image(make_model, predict, posts):
    model = make_model()
    names = ("image_features", "object_features", "caption", "image_phrases")
    bare = [{name: value for name, value in post.items() if name not in names} for post in posts()]
    for post in bare:
        post["pairs"] = [{k: v for k, v in pair.items() if k != "objects"} for pair in post["pairs"]]
    torch.testing.assert_close(
        predict(model, [drop_visual_nodes(post, 0.0) for post in posts()]), predict(model, bare)
    )


def test_a_tail_in_the_image_is_still_there(nodes_of, object_post):
    present = nodes_of(drop_visual_nodes({**object_post(), "id": "more"}, 0.0))
    assert present[:, 1].all()  # the tail
    assert present.sum(dim=1).tolist() == [2, 2]  # and the object that is the other pair's tail
