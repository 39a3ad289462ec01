"""Hypergraphs as data: both scopes by hand, and what the processor and the model make of the column."""

import copy

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_vmhan.hyperedges import PAIR_FAMILIES, hypergraph_of
from vmhan.inference.onnx.inputs import filled_inputs, input_axes
from vmhan.training.posts.visual_dropout import drop_visual_nodes


def with_column(post):
    return post | {"hypergraph": hypergraph_of(post)}


def named(hypergraph, scope):
    """[(family, pair, names of the members)]."""
    names = [f"{node['kind']} {node['span'] or node['index']}" for node in hypergraph["nodes"]]
    return [(edge["family"], edge["pair"], {names[i] for i in edge["nodes"]}) for edge in hypergraph[scope]]


POST = {
    "tokens": "Ann met Bob in Oslo".split(),
    "image": "a.png",
    "boxes": [[0, 0, 1, 1]] * 3,
    "image_phrases": ["snow", " "],
    "pairs": [
        {"head": [0, 1], "tail": [2, 3], "text_phrases": [[1, 2]], "objects": [2], "image_phrases": []},
        {"head": [2, 3], "tail": [], "tail_object": 0, "text_phrases": None},
    ],
}
ANN, BOB, BOX = "mention [0, 1]", "mention [2, 3]", "mention 0"
MET, IMAGE, SNOW = "text_phrase [1, 2]", "image None", "image_phrase 0"


def test_the_pairs_hyperedges_by_hand():
    """The second pair chose nothing, so all count; its tail is no object of its own and not in its tail-visual."""
    others = {IMAGE, "object 1", "object 2", SNOW}
    assert named(hypergraph_of(POST), "pair_hyperedges") == [
        ("global", 0, {ANN, BOB, MET, IMAGE, "object 2"}),
        ("textual", 0, {ANN, BOB, MET}),
        ("visual", 0, {IMAGE, "object 2"}),
        ("head-visual", 0, {ANN, IMAGE, "object 2"}),
        ("tail-visual", 0, {BOB, IMAGE, "object 2"}),
        ("global", 1, {BOB, BOX} | others),
        ("textual", 1, {BOB}),
        ("visual", 1, {BOX} | others),
        ("head-visual", 1, {BOB, BOX} | others),
        ("tail-visual", 1, others),
    ]


def test_the_posts_hyperedges_by_hand():
    others = {IMAGE, "object 1", "object 2", SNOW}
    hypergraph = hypergraph_of(POST)
    assert named(hypergraph, "post_hyperedges") == [
        ("pair", 0, {"pair 0", ANN, BOB, MET, "object 2"}),
        ("pair", 1, {"pair 1", BOB, BOX, "object 1", "object 2", SNOW}),
        ("mention", None, {ANN, "pair 0"}),
        ("mention", None, {BOB, "pair 0", "pair 1"}),
        ("mention", None, {BOX, "pair 1"}),
        ("mention-visual", None, {ANN, BOX} | others),
        ("mention-visual", None, {BOB, BOX} | others),
        ("mention-visual", None, others),
        ("textual", None, {ANN, BOB, "pair 0", "pair 1", MET}),
        ("visual", None, {BOX} | others),
        ("global", None, {ANN, BOB, BOX, "pair 0", "pair 1", MET} | others),
    ]
    roles = [edge["roles"] for edge in hypergraph["post_hyperedges"] if edge["family"] == "mention"]
    assert roles == [[None, "head"], [None, "tail", "head"], [None, "tail"]]


def test_a_post_of_text_alone_has_no_visual_hyperedge():
    post = {"tokens": ["Ann", "Bob"], "image_id": "a.png", "image": None, "pairs": [{"head": (0, 1), "tail": (1, 2)}]}
    hypergraph = hypergraph_of(post)
    assert [edge["family"] for edge in hypergraph["pair_hyperedges"]] == ["global", "textual"]
    assert {edge["family"] for edge in hypergraph["post_hyperedges"]} == {"pair", "mention", "textual", "global"}
    del post["image"]  # a name alone: there is an image, which no column holds
    assert {"kind": "image", "span": None, "index": None} in hypergraph_of(post)["nodes"]


spans = st.sampled_from([(0, 1), (1, 3), (2, 4), (4, 5), (3, 5)])


@st.composite
def any_post(draw):
    """Text and object tails, choices that were made or not, blank phrases, a caption alone, no image."""
    count = draw(st.integers(0, 4))
    phrases = draw(st.sampled_from([[], ["red car"], ["red car", " ", "sky", "stage"]]))
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        pair = dict(zip(("head", "tail"), draw(st.tuples(spans, spans))))
        pair["text_phrases"] = draw(st.none() | st.lists(spans, max_size=3))
        if count and draw(st.booleans()):
            pair |= {"tail": [], "tail_object": draw(st.integers(0, count - 1))}
        pair["objects"] = draw(st.none() | st.lists(st.integers(-1, count - 1), max_size=4))
        pair["image_phrases"] = draw(st.none() | st.lists(st.integers(-1, len(phrases) - 1), max_size=4))
        pairs.append(pair)
    return {
        "id": draw(st.sampled_from("abc")),
        "tokens": "Ann met Bob in Paris".split(),
        "image_features": draw(st.sampled_from([None, [0.5] * 8])),
        "object_features": [[float(i)] * 8 for i in range(count)],
        "caption": draw(st.sampled_from([None, "a red car"])),
        "image_phrases": phrases,
        "pairs": pairs,
    }


@pytest.fixture(scope="module")
def incidence_of(make_model, make_processor):
    """`incidence_of(posts, i)`: (inputs, incidence) of the model of CONFIGS[i]."""
    models = [make_model(**fields) for fields in CONFIGS]
    processors = [make_processor(model.config) for model in models]

    def incidence_of(posts, i):
        inputs = processors[i](posts)
        with torch.no_grad():
            return inputs, models[i].vmhan(**inputs).incidence

    return incidence_of


CONFIGS = [
    {},
    {"order_blind": True},
    {"visual_feature_size": 0},
    {"num_objects": 1, "num_text_phrases": 0, "hyperedges": ["inter", "global"]},
    {"num_image_phrases": 1, "hyperedges": ["pairwise", "intra"]},
]


def for_config(posts, number):
    """The posts without pairs that a model of this config cannot have: it sees no region that could be a tail."""
    if CONFIGS[number].get("visual_feature_size", 1):
        return posts
    posts = [post | {"pairs": [p for p in post["pairs"] if p.get("tail_object", -1) < 0]} for post in posts]
    return [post for post in posts if post["pairs"]]


@settings(max_examples=30)
@given(st.lists(any_post(), min_size=1, max_size=2), st.integers(0, 4), st.booleans(), st.floats(0, 1))
def test_the_column_says_what_is_derived_without_it(incidence_of, posts, number, is_mixed, share):
    """Whatever the model has of the nodes, whichever posts of the batch have the column, and when nodes are gone."""
    if not (posts := for_config(posts, number)):
        return
    fewer = [drop_visual_nodes(post, share) for post in posts]
    held = [post | {"hypergraph": hypergraph_of(of)} for post, of in zip(fewer, posts)]
    inputs, derived = incidence_of(fewer, number)
    given, taken = incidence_of([held[0], *(fewer if is_mixed else held)[1:]], number)
    assert "incidence" not in inputs and given.pop("incidence").shape[-1] == len(PAIR_FAMILIES)
    assert given.keys() == inputs.keys() and all(torch.equal(given[name], inputs[name]) for name in inputs)
    assert torch.equal(taken, derived)


@settings(max_examples=30)
@given(st.lists(any_post(), min_size=1, max_size=2), st.integers(0, 3), st.floats(0, 1))
def test_so_does_the_post_s_column(incidence_of_posts, posts, number, share):
    """Its hyperedges of which the model has no node are of no member there."""
    if not (posts := for_config(posts, number)):
        return
    fewer = [drop_visual_nodes(post, share) for post in posts]
    held = [post | {"hypergraph": hypergraph_of(of)} for post, of in zip(fewer, posts)]
    derived, taken = incidence_of_posts(fewer, number), incidence_of_posts(held, number)
    assert derived == taken and all(derived)


@pytest.fixture(scope="module")
def incidence_of_posts(make_model, make_processor):
    """`incidence_of_posts(posts, i)`: of each post its hyperedges, sorted, each the membership of all nodes."""
    models = [make_model(**fields, hypergraph_scope="post") for fields in CONFIGS[:4]]

    def incidence_of_posts(posts, i):
        inputs = make_processor(models[i].config)(posts)
        with torch.no_grad():
            incidence = models[i].vmhan(**inputs).incidence
        codes = (inputs["membership"] * incidence).transpose(1, 2)  # (B, E, N)
        return [sorted(edge.tolist() for edge in of_post if edge.any()) for of_post in codes]

    return incidence_of_posts


@pytest.mark.parametrize("made_of", ["numpy", "torch"])
@pytest.mark.parametrize("scope", ["pair", "post"])
def test_the_column_is_read_in_every_format_of_a_data_set(make_processor, posts, made_of, scope):
    rows = Dataset.from_list([with_column(post) for post in posts()])
    processor = make_processor(hypergraph_scope=scope)
    expected, found = processor(list(rows)), processor(list(rows.with_format(made_of)))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert torch.equal(torch.as_tensor(values), torch.as_tensor(found[name])), name


def test_edited_hyperedges_reach_the_model(make_model, make_processor, posts):
    post, model = with_column(posts()[0]), make_model()
    processor = make_processor(model.config)
    edited = copy.deepcopy(post)
    textual, visual = edited["hypergraph"]["pair_hyperedges"][1:3]
    assert (textual["family"], visual["family"], visual["pair"]) == ("textual", "visual", 0)
    textual["nodes"] = [textual["nodes"][1]]  # only the tail
    edited["hypergraph"]["pair_hyperedges"].remove(visual)
    inputs, changed = processor([post]), processor([edited])
    by_hand = inputs["incidence"].clone()
    by_hand[0, :, 1:3] = False
    by_hand[0, 1, 1] = True
    assert torch.equal(changed["incidence"], by_hand)
    with torch.no_grad():
        before, after = model(**inputs).logits, model(**changed).logits
        expected = model(**{**inputs, "incidence": by_hand}).logits
    assert torch.equal(after, expected) and torch.equal(after[1:], before[1:])
    assert (after[0] - before[0]).abs().max() > 1e-3


def test_a_pair_is_turned_with_its_hyperedges(make_processor):
    """The hyperedge of the mention that stands first is the head's, whichever the question calls so."""
    post = {"tokens": "Ann met Bob".split(), "image_features": [0.0] * 8, "pairs": [{"head": (2, 3), "tail": (0, 1)}]}
    held = with_column(post)
    dropped = [edge for edge in held["hypergraph"]["pair_hyperedges"] if edge["family"] != "tail-visual"]
    held["hypergraph"]["pair_hyperedges"] = dropped
    for order_blind, column in ((False, 4), (True, 3)):
        incidence = make_processor(order_blind=order_blind)([held])["incidence"]
        assert incidence.any(dim=1)[0].tolist() == [i != column for i in range(5)]


def test_a_mention_that_is_both_ends_is_one_node_and_two_ends(make_processor):
    post = {"tokens": "Ann met Bob".split(), "image_features": [0.0] * 8, "pairs": [{"head": (0, 1), "tail": (0, 1)}]}
    incidence = make_processor()([with_column(post)])["incidence"]
    assert incidence[0, :2, 3:].tolist() == [[True, False], [False, True]]


def test_spans_of_a_text_with_halves_of_surrogates_are_counted_with_its_pairs(make_processor):
    post = {"text": "\ud83d\ude00 Ann met Bob", "pairs": [{"head": (3, 6), "tail": (11, 14)}]}
    assert make_processor()([with_column(post)])["incidence"][0, :2, 0].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "globl"}, r"pair_hyperedges\[0\]: family .*'tail-visual'.*'globl'"),
        ({"family": "textual"}, r"pair_hyperedges\[1\]: pair 0 .*'textual'.*second: join"),
        ({"pair": 3}, r"pair_hyperedges\[0\]: pair .* 3 pairs, received 3.*hypergraph_of"),
        ({"nodes": [0, 99]}, r"pair_hyperedges\[0\]: nodes .*\[99\].*hypergraph_of"),
        ({"nodes": 1}, "hypergraph must be .*received"),
        ({"nodes": None}, "hypergraph must be .*received"),
        ({"weight": 1}, "hypergraph must be .*'weight'"),
    ],
)
def test_a_wrong_hyperedge_is_named(make_processor, posts, change, message):
    post = with_column(posts()[0])
    post["hypergraph"]["pair_hyperedges"][0] |= change
    with pytest.raises(ValueError, match=f"post 'everything'.*{message}"):
        make_processor()([post])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"kind": "objct", "index": 0}, "hypergraph must be .*'objct'"),
        ({"kind": "image"}, "hypergraph: nodes must be different.*received node [0-9]+ as a second.*'image'"),
    ],
)
def test_a_wrong_node_is_named(make_processor, posts, node, message):
    post = with_column(posts()[0])
    post["hypergraph"]["nodes"].append(node)
    with pytest.raises(ValueError, match=f"'everything'.*{message}"):
        make_processor()([post])


@pytest.mark.parametrize("scope", ["pair", "post"])
@pytest.mark.parametrize("change", [lambda pairs: pairs[::-1], lambda pairs: pairs[1:]], ids=["reversed", "fewer"])
def test_hyperedges_of_other_pairs_are_refused(make_processor, change, scope):
    spans = {"Ann": (0, 1), "Bob": (2, 3), "Paris": (4, 5)}
    ends = [("Ann", "Bob"), ("Ann", "Paris"), ("Bob", "Paris")]
    pairs = [{"head": spans[head], "tail": spans[tail]} for head, tail in ends]
    post = with_column({"tokens": "Ann met Bob in Paris".split(), "pairs": pairs})
    post["pairs"] = change(pairs)
    with pytest.raises(ValueError, match=r"hypergraph.* must .*received .*hypergraph_of"):
        make_processor(hypergraph_scope=scope)([post])


def test_an_exported_model_takes_no_hyperedges_of_the_data(make_config, make_processor, posts):
    config = make_config()
    inputs = make_processor(config)([with_column(post) for post in posts()])
    axes = input_axes(config, list(inputs))
    assert axes.keys() == filled_inputs(inputs, axes).keys() == inputs.keys() - {"incidence"}
