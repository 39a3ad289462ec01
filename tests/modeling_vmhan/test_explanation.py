"""Attention rollout by hand and its sums, nodes named as the model has them, and the picture."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from modeling_vmhan.drawing import EDGE_COLOURS, FAINT, NODE_COLOURS, PAPER, draw_explanation, edge_colours, ink_on
from modeling_vmhan.explanation import AttentionRollout, attention_rollout, describe_nodes, explain_pair
from modeling_vmhan.hyperedges import PAIR_FAMILIES
from modeling_vmhan.hypergraph import build_incidence


def close(first, second):
    torch.testing.assert_close(first, torch.as_tensor(second), atol=1e-6, rtol=1e-5)


def test_one_layer_by_hand():
    """Head and tail in hyperedge 0, head and an object in hyperedge 1."""
    incidence = torch.tensor([[[1, 1], [1, 0], [0, 1]]]).bool()
    edge_to_node = torch.tensor([[[[0.75, 0.25], [1.0, 0.0], [0.0, 1.0]]]])
    node_to_edge = torch.tensor([[[[0.9, 0.1, 0.0], [0.2, 0.0, 0.8]]]])
    rollout = attention_rollout(((node_to_edge, edge_to_node),), incidence)
    start = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])  # the average of a hyperedge's members
    head = (torch.tensor([1.0, 0, 0]) + 0.75 * start[0] + 0.25 * start[1]) / 2
    tail = (torch.tensor([0, 1.0, 0]) + start[0]) / 2
    close(rollout.node_weight[0], (head + tail) / 2)
    close(rollout.edge_weight[0], [0.875, 0.125])
    close(rollout.member_weight[0], start)


def test_a_second_layer_reads_what_the_first_wrote():
    incidence = torch.tensor([[[1], [1], [1]]]).bool()
    to_edge, to_node = torch.tensor([[[[0.0, 0.0, 1.0]]]]), torch.ones(1, 1, 3, 1)
    rollout = attention_rollout(((to_edge, to_node),) * 2, incidence)
    edge = (torch.full((3,), 1 / 3) + torch.tensor([0, 0, 1.0])) / 2  # after layer 1, all attention on node 2
    close(rollout.member_weight[0, 0], edge)
    head = ((torch.tensor([1.0, 0, 0]) + 1 / 3) / 2 + edge) / 2
    tail = ((torch.tensor([0, 1.0, 0]) + 1 / 3) / 2 + edge) / 2
    close(rollout.node_weight[0], (head + tail) / 2)


@pytest.mark.parametrize("preset", ["full", "no_hypergraph", "no_global", "no_intra", "no_inter", "no_variational"])
def test_weights_are_shares_of_what_is_there(preset, make_model, encode, posts):
    model = make_model(preset)
    inputs = encode(model, posts())
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    rollout = attention_rollout(output.attentions, output.incidence)
    assert not rollout.node_weight[~output.node_mask].any()
    close(rollout.node_weight.sum(dim=-1), torch.ones(len(output.node_mask)))
    has_edge = output.incidence[:, :2].any(dim=2).float().mean(dim=1)  # share of head and tail that have one
    close(rollout.edge_weight.sum(dim=-1), has_edge)
    close(rollout.member_weight.sum(dim=-1), output.incidence.any(dim=1).float())
    assert not rollout.member_weight[~output.incidence.transpose(1, 2)].any()


@pytest.mark.parametrize("preset", ["no_vhan", "text_only", "gcn", "gat", "hgnn", "variational_gcn"])
def test_a_model_without_hyperedge_attention_cannot_be_explained(preset, make_model, encode, posts):
    model = make_model(preset)
    output = model(**encode(model, posts()), output_attentions=True)
    with pytest.raises(ValueError, match="explain=True needs hypergraph_encoder='vhan'"):
        attention_rollout(output.attentions, output.incidence)


def described(processor, posts, inputs):
    encoded = [(post, processor.encode(post, "the post")) for post in posts]
    pairs = [(post, *both) for post, of_post in encoded for both in zip(post["pairs"], of_post.pairs, strict=True)]
    return [describe_nodes(*each, inputs) for each in pairs]


def test_nodes_are_named_as_the_model_has_them(make_model, make_processor, encode, posts, object_post):
    """Whatever slots the batch's other pairs need: a described node is present in the model, an empty one is not."""
    batch = [*posts(), object_post()]
    batch[0]["boxes"], batch[0]["object_labels"] = [[i, 0, i + 5, 5] for i in range(4)], ["cat", "dog", "", "car"]
    model = make_model()
    inputs = encode(model, batch)
    output = model(**inputs, output_attentions=True)
    nodes = described(make_processor(model.config), batch, inputs)
    assert all(len(of_pair) == output.node_mask.shape[1] for of_pair in nodes)
    for of_pair, present in zip(nodes, output.node_mask):
        of_text = [node["kind"] not in ("image", "empty") for node in of_pair]
        assert [flag for flag, is_given in zip(present.tolist(), of_text) if is_given] == [True] * sum(of_text)
        assert not any(flag for flag, node in zip(present.tolist(), of_pair) if node["kind"] == "empty")
    first, second = nodes[0], nodes[1]
    assert [node.get("text") for node in first[:4]] == ["Ann", "Bob", "in Paris", "with the Zulu band"]
    assert first[2]["characters"] == [12, 20]
    assert [node["text"] for node in first if node["kind"] == "object"] == ["cat", "dog", "object 2"]
    assert [node["text"] for node in second if node["kind"] == "object"] == ["car", "cat"]  # its own choice
    assert [node["box"] for node in second if node["kind"] == "object"] == [[3, 0, 8, 5], [0, 0, 5, 5]]
    assert [node["text"] for node in first if node["kind"] == "image phrase"] == ["red car", "big stage", "blue sky"]
    assert (nodes[-2][1]["kind"], nodes[-2][1]["text"], nodes[-2][1]["box"]) == ("tail", "object 2", None)
    assert [node["text"] for node in nodes[-1] if node["kind"] == "image phrase"] == ["a big stage"]  # the caption


def test_a_place_left_empty_is_described_as_empty(make_model, make_processor, encode, posts):
    post = posts()[0]
    post["pairs"] = [post["pairs"][0] | {"objects": [2, -1, 0], "image_phrases": [-1, 1]}]
    post["image_features"] = None
    model = make_model()
    inputs = encode(model, [post])
    present = model(**inputs, output_attentions=True).node_mask[0].tolist()
    (nodes,) = described(make_processor(model.config), [post], inputs)
    kinds = ["image", "object", "empty", "object", "empty", "image phrase"]
    assert [node["kind"] for node in nodes[4:]] == kinds
    assert [node["kind"] not in ("image", "empty") for node in nodes] == present


def test_an_explanation_lists_present_nodes_and_filled_hyperedges():
    nodes = [{"kind": kind, "text": kind} for kind in ("head", "tail")] + [{"kind": "empty"}, {"kind": "image"}]
    present = torch.tensor([True, True, False, True])
    incidence = build_incidence(present.unsqueeze(0), torch.tensor([[False, False, True, True]]))[0]
    rollout = AttentionRollout(torch.tensor([0.5, 0.3, 0, 0.2]), torch.full((5,), 0.2), torch.rand(5, 4))
    explanation = explain_pair(nodes, present, rollout, incidence, PAIR_FAMILIES)
    assert [node["kind"] for node in explanation["nodes"]] == ["head", "tail", "image"]
    assert [node["weight"] for node in explanation["nodes"]] == pytest.approx([0.5, 0.3, 0.2])
    by_name = {edge["name"]: [member["node"] for member in edge["members"]] for edge in explanation["hyperedges"]}
    assert by_name == {
        "global": [0, 1, 2],
        "textual": [0, 1],
        "visual": [2],
        "head-visual": [0, 2],
        "tail-visual": [1, 2],
    }


def explanation(object_weight=0.3, box=(10, 10, 60, 50), phrases=1):
    def node(kind, text, characters=None, box=None, weight=0.2):
        return {"kind": kind, "text": text, "characters": characters, "box": box, "weight": weight}

    nodes = [node("head", "Ann", [0, 3]), node("tail", "Bob", [8, 11], weight=0.1), node("image", "image")]
    nodes += [node("object", "car", box=box and list(box), weight=object_weight)]
    nodes += [node("image phrase", f"a very long phrase about the image, number {i}") for i in range(phrases)]
    members = [{"node": i, "weight": 1 / len(nodes)} for i in range(len(nodes))]
    return {"nodes": nodes, "hyperedges": [{"name": "global", "weight": 1.0, "members": members}]}


def share_of(picture, colour):
    """Pixels near a colour, whatever the shrinking made of its borders."""
    distance = np.abs(np.asarray(picture, dtype=int) - np.array(colour)).max(axis=-1)
    return int((distance < 12).sum())


def test_what_is_heavier_is_drawn_thicker():
    image = Image.new("RGB", (100, 80), "white")

    def drawn(given, place):
        return np.asarray(draw_explanation(given, "Ann met Bob", image, "peer").crop(place), dtype=int)

    outlines = [
        share_of(drawn(explanation(weight), (30, 130, 560, 380)), NODE_COLOURS["object"]) for weight in (0.02, 0.5)
    ]
    assert outlines[1] > 1.5 * outlines[0]
    light, heavy = explanation(box=None), explanation(box=None)
    for member in light["hyperedges"][0]["members"][1:]:
        member["weight"] /= 10
    widths = [int((drawn(given, (0, 530, 1100, 620)).min(axis=-1) < 200).sum()) for given in (light, heavy)]
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("size", [(2000, 30), (30, 2000), (1, 1), (640, 480)])
def test_every_shape_of_image_fits(size):
    picture = draw_explanation(explanation(box=(0, 0, 1, 1)), "Ann met Bob", Image.new("RGB", size), "peer")
    assert picture.mode == "RGB" and picture.width == 1100 and 400 < picture.height < 1200


def test_a_long_sentence_and_many_phrases_make_it_higher():
    image = Image.new("RGB", (100, 80))
    short = draw_explanation(explanation(), "Ann met Bob", image, "peer")
    long = draw_explanation(explanation(), "Ann met Bob " * 200, image, "peer")
    many = draw_explanation(explanation(phrases=40), "Ann met Bob", image, "peer")
    assert long.height > short.height + 800 and many.height > short.height + 400
    assert (
        share_of(long.crop((0, long.height - 150, 1100, long.height)), NODE_COLOURS["head"]) > 0
    )  # its bars are there


def test_without_an_image_and_without_hyperedges():
    given = explanation(phrases=6)
    assert share_of(draw_explanation(given, "Ann met Bob", None, "peer"), EDGE_COLOURS[0]) > 0
    given["hyperedges"] = []
    assert share_of(draw_explanation(given, "Ann met Bob", None, "peer"), EDGE_COLOURS[0]) < 100


@pytest.mark.parametrize("image", [None, Image.new("RGB", (100, 80))])
def test_a_phrase_of_several_lines_is_drawn_on_one(image):
    given, flat = explanation(), explanation()
    given["nodes"][-1]["text"], flat["nodes"][-1]["text"] = "Two people.\nA house.", "Two people. A house."
    pictures = [draw_explanation(of, "Ann met Bob", image, "peer") for of in (given, flat)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def hypergraph(names, weights, members=None):
    """Head, tail, a text phrase and the image; each hyperedge holds all of them, or `members`."""
    given = explanation(phrases=0)
    given["nodes"][0] |= {"weight": 0.6}
    given["nodes"][1] |= {"weight": 0.25}
    given["nodes"][2] |= {"weight": 0.15}
    del given["nodes"][3:]
    everyone = [{"node": i, "weight": 1 / 3} for i in members or range(3)]
    given["hyperedges"] = [{"name": n, "weight": w, "members": everyone} for n, w in zip(names, weights)]
    return given


@pytest.fixture
def rectangles(monkeypatch):
    """(box, fill) of what is drawn as a plain rectangle: grounds of bars and bars."""
    drawn, plain = [], ImageDraw.ImageDraw.rectangle

    def rectangle(self, box, fill=None, *args, **options):
        drawn.append((box, fill))
        return plain(self, box, fill, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", rectangle)
    return drawn


def test_a_full_bar_is_100_percent(rectangles):
    """Not the heaviest one, so that bars of two pictures may be compared."""
    draw_explanation(hypergraph(["global", "textual"], [0.7, 0.3]), "Ann met Bob", Image.new("RGB", (9, 9)), "peer")
    tracks = [box for box, fill in rectangles if fill == FAINT]
    shares = [
        (fill, (box[2] - box[0]) / (track[2] - track[0]))
        for track in tracks
        for box, fill in rectangles
        if fill != FAINT and (box[0], box[1]) == (track[0], track[1])
    ]
    expected = [(EDGE_COLOURS[0], 0.7), (EDGE_COLOURS[1], 0.3)]
    expected += [(NODE_COLOURS[kind], weight) for kind, weight in (("head", 0.6), ("tail", 0.25), ("image", 0.15))]
    assert [fill for fill, _ in shares] == [colour for colour, _ in expected] and len(tracks) == 5
    assert [share for _, share in shares] == pytest.approx([weight for _, weight in expected], abs=0.003)


@pytest.mark.parametrize(
    "names",
    [
        ["global", "textual", "visual", "head-visual", "tail-visual"],
        ["tail-visual", "textual"],
        [f"Ann + {i}" for i in range(30)],
        ["global", *(f"Ann + {i}" for i in range(5))],
        ["textual", "textual", "textual"],
    ],
)
def test_a_hyperedge_has_one_colour_in_its_chip_its_lines_and_its_bar(names, rectangles, monkeypatch):
    lines, chips = [], []
    line, rounded = ImageDraw.ImageDraw.line, ImageDraw.ImageDraw.rounded_rectangle
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "line", lambda self, at, fill, width: (lines.append(fill), line(self, at, fill, width))
    )
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "rounded_rectangle",
        lambda self, box, radius, fill: (chips.append(fill), rounded(self, box, radius, fill=fill)),
    )
    given = hypergraph(names, [2.0**-i for i in range(len(names))])
    draw_explanation(given, "Ann met Bob", None, "peer")
    of_edges = [fill for _, fill in rectangles if fill in EDGE_COLOURS]
    drawn = min(len(names), 6)
    assert [fill for fill in chips if fill in EDGE_COLOURS] == of_edges and len(of_edges) == drawn
    assert [fill[:3] for fill in lines] == [colour for colour in of_edges for _ in range(3)]
    assert len(set(of_edges)) == len(set(names[:drawn]))


def test_the_kinds_of_hyperedges_have_their_colours_in_every_picture():
    names = ["global", "textual", "visual", "head-visual", "tail-visual"]
    assert edge_colours(names) == edge_colours(names[::-1])[::-1] == list(EDGE_COLOURS[:5])
    for kept in (["visual"], ["x + y", "visual", "y + z"]):
        assert edge_colours(kept)[kept.index("visual")] == EDGE_COLOURS[2]


def lab(colour):
    """CIE L*a*b* of sRGB (D65), in which distances are about as large as they look; 2.3 is just seen."""
    linear = [
        value / 12.92 if value < 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in np.array(colour) / 255
    ]
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(matrix @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_head_and_tail_have_colours_that_nothing_else_has():
    others = [*EDGE_COLOURS, *(colour for kind, colour in NODE_COLOURS.items() if kind not in ("head", "tail"))]
    head, tail = NODE_COLOURS["head"], NODE_COLOURS["tail"]
    assert min(np.linalg.norm(lab(one) - lab(other)) for one in (head, tail) for other in others) > 30
    assert np.linalg.norm(lab(head) - lab(tail)) > 30
    of_edges = [np.linalg.norm(lab(a) - lab(b)) for i, a in enumerate(EDGE_COLOURS) for b in EDGE_COLOURS[:i]]
    assert min(of_edges) > 30


@pytest.mark.parametrize("colour", [*EDGE_COLOURS, *NODE_COLOURS.values(), PAPER, FAINT])
def test_letters_stand_out_from_their_ground(colour):
    """By what can be seen: lightness of L*a*b*, from 0 to 100."""
    assert abs(lab(colour)[0] - lab(ink_on(colour))[0]) > 40


def test_long_names_of_hyperedges_do_not_cover_each_other(monkeypatch):
    boxes, rounded = [], ImageDraw.ImageDraw.rounded_rectangle

    def rounded_rectangle(self, box, radius, fill):
        if fill in EDGE_COLOURS:
            boxes.append(box)
        return rounded(self, box, radius, fill=fill)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rounded_rectangle", rounded_rectangle)
    names = [f"{'a very long mention ' * 3}+ the band {i}" for i in range(6)]
    draw_explanation(hypergraph(names, [0.2] * 6), "Ann met Bob", None, "peer")
    assert len(boxes) == 6 and all(left[2] < right[0] for left, right in zip(boxes, boxes[1:]))
