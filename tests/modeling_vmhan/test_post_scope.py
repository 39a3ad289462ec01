"""One hypergraph a post: its members by hand, what an answer depends on, and what only another pair can tell."""

import copy

import numpy as np
import pytest
import torch
from tiny import ALL_MODES, close, without_labels

from modeling_vmhan import VMHANForRelationClassification
from modeling_vmhan.drawing import NODE_COLOURS
from modeling_vmhan.hyperedges import POST_FAMILIES, hypergraph_of
from modeling_vmhan.post_slots import MOST_PAIRS


GRAPH_LAYERS = {"hgnn": False, "gcn": False, "gat": False, "variational_gcn": True}
SCOPE = {"hypergraph_scope": "post"}

POST = {
    "tokens": "Ann met Bob in Paris".split(),
    "image_features": [0.5] * 8,
    "object_features": [[0.1] * 8, [0.2] * 8, [0.3] * 8],
    "image_phrases": ["red car", "big stage"],
    "pairs": [
        {"head": (0, 1), "tail": (2, 3), "text_phrases": [(1, 2)], "objects": [2], "image_phrases": []},
        {"head": (2, 3), "tail": (4, 5), "text_phrases": [(3, 5)], "objects": [0, 2], "image_phrases": [1]},
    ],
}
ANN, BOB, PARIS = (f"mention {place}" for place in ((0, 1), (2, 3), (4, 5)))
MET, IN_PARIS, STAGE = "text_phrase (1, 2)", "text_phrase (3, 5)", "image_phrase 1"
VISUAL = {"image None", "object 0", "object 2", STAGE}


@pytest.fixture
def make_post_model(make_model):
    """A model of the scope whose messages, weights of 0.2 in all, are large beside its nodes."""

    def make(preset="full", **fields):
        return make_model(preset, **SCOPE, **fields)

    return make


def hyperedges_in(processor, post, incidence, roles, number=0):
    """[(family, {node: roles})] of the hyperedges of one post that have members, as the model has them."""
    graph = processor.encode(post, "the post").graph
    names = [f"{node.kind} {node.place}" for node in graph.nodes]
    found = []
    for edge, joined in enumerate(graph.hyperedges):
        members = incidence[number, :, edge].nonzero().flatten().tolist()
        told = {names[i]: "".join(r for r, is_so in zip("ht", roles[number, i, edge]) if is_so) for i in members}
        found += [(joined.family, told)] if told else []
    return found


@pytest.fixture
def found(make_processor, monkeypatch):
    """`found(model, post)`: `hyperedges_in`, the roles as the first layer gets them."""

    def of(model, posts, number=0):
        seen = []
        handle = model.vmhan.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args))
        processor = make_processor(model.config)
        model(**processor(posts))
        handle.remove()
        *_, incidence, roles = seen[0]
        return hyperedges_in(processor, posts[number], incidence, roles, number)

    return of


def none_of(*nodes):
    return dict.fromkeys(nodes, "")


def test_the_members_of_every_hyperedge_by_hand(make_post_model, found):
    """Two pairs that share Bob, the tail of the first and the head of the second; the object 1 was chosen by none."""
    expected = [
        ("pair", none_of("pair 0", ANN, BOB, MET, "object 2")),
        ("pair", none_of("pair 1", BOB, PARIS, IN_PARIS, "object 0", "object 2", STAGE)),
        ("mention", {ANN: "", "pair 0": "h"}),
        ("mention", {BOB: "", "pair 0": "t", "pair 1": "h"}),
        ("mention", {PARIS: "", "pair 1": "t"}),
        *(("mention-visual", none_of(mention, *VISUAL)) for mention in (ANN, BOB, PARIS)),
        ("textual", none_of(ANN, BOB, PARIS, "pair 0", "pair 1", MET, IN_PARIS)),
        ("visual", none_of(*VISUAL)),
        ("global", none_of(ANN, BOB, PARIS, "pair 0", "pair 1", MET, IN_PARIS, *VISUAL)),
    ]
    model = make_post_model()
    assert found(model, [POST]) == expected
    assert found(model, [POST | {"hypergraph": hypergraph_of(POST)}]) == expected


def test_what_a_pair_chose_beyond_the_model_s_numbers_is_not_its_own(make_post_model, found):
    """Although another pair has it as a node of the post, and the data's hyperedge has it."""
    more = {"objects": [2, 0], "image_phrases": [0, 1], "text_phrases": [(1, 2), (3, 5)]}
    post = POST | {"pairs": [POST["pairs"][0] | more, POST["pairs"][1]]}
    model = make_post_model(num_objects=1, num_image_phrases=1, num_text_phrases=1)
    for held in (post, post | {"hypergraph": hypergraph_of(post)}):
        assert found(model, [held])[:2] == [
            ("pair", none_of("pair 0", ANN, BOB, MET, "object 2", "image_phrase 0")),
            ("pair", none_of("pair 1", BOB, PARIS, IN_PARIS, "object 0", STAGE)),
        ]


def test_a_post_without_image_has_no_hyperedge_of_visual_nodes(make_post_model, found):
    pairs = [pair | {"objects": [], "image_phrases": None} for pair in POST["pairs"]]
    post = {"tokens": POST["tokens"], "pairs": pairs}
    for held in (post, post | {"hypergraph": hypergraph_of(POST)}):
        families = [family for family, _ in found(make_post_model(), [POST, held], number=1)]
        assert families == ["pair"] * 2 + ["mention"] * 3 + ["textual", "global"]


def test_regions_that_are_tails_are_visual_mentions(make_post_model, found, object_post):
    """A mention that is a region is left out of its own mention-visual, and stays in that of the others."""
    post, model = object_post(), make_post_model()
    hyperedges = found(model, [post])
    visual = {"image None", "object 0", "object 1", "object 2", "image_phrase 0", "mention 0", "mention 2"}
    of_mentions = [set(members) for family, members in hyperedges if family == "mention-visual"]
    assert of_mentions == [visual | {"mention (0, 1)"}, visual - {"mention 2"}, visual | {"mention (4, 5)"}] + [
        visual - {"mention 0"}
    ]
    assert dict(hyperedges)["visual"].keys() == visual


def test_a_hyperedge_starts_as_its_mentions_and_pairs(make_post_model, make_processor):
    """With hyperedge_start="entities"; the visual one, which has none, as all its members."""
    model, seen = make_post_model(hyperedge_start="entities"), []
    model.vmhan.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args))
    processor = make_processor(model.config)
    model(**processor([POST]))
    node_mean, _, edge_mean, _, incidence, _ = seen[0]
    graph = processor.encode(POST, "the post").graph
    is_entity = torch.tensor([node.kind in ("mention", "pair") for node in graph.nodes])
    assert is_entity.sum() == 5
    for edge, joined in enumerate(graph.hyperedges):
        members = incidence[0, :, edge]
        first = members if joined.family == "visual" else members & is_entity
        close(edge_mean[0, edge], node_mean[0, first].mean(dim=0))


@pytest.mark.parametrize(
    ("families", "left"),
    [
        (["global", "intra", "inter"], set(POST_FAMILIES)),
        (["intra", "inter"], {"pair", "mention", "mention-visual", "textual", "visual"}),
        (["global", "inter"], {"pair", "mention", "mention-visual", "global"}),
        (["global", "intra"], {"pair", "mention", "textual", "visual", "global"}),
    ],
)
def test_an_ablation_drops_a_family(families, left, make_post_model, found):
    assert {family for family, _ in found(make_post_model(hyperedges=families), [POST])} == left


@pytest.mark.parametrize("order_blind", [False, True])
def test_a_pair_that_is_turned_changes_its_roles(order_blind, make_post_model, found):
    """With the column or without, and whatever else the post asks."""
    post = {"tokens": POST["tokens"], "pairs": [{"head": (2, 3), "tail": (0, 1)}, {"head": (2, 3), "tail": (4, 5)}]}
    first, second = ("t", "h") if order_blind else ("h", "t")
    for held in (post, post | {"hypergraph": hypergraph_of(post)}):
        of_mentions = [members for family, members in found(make_post_model(order_blind=order_blind), [held])[2:5]]
        expected = [{ANN: "", "pair 0": second}, {BOB: "", "pair 0": first, "pair 1": "h"}, {PARIS: "", "pair 1": "t"}]
        assert sorted(map(str, of_mentions)) == sorted(map(str, expected))


@pytest.mark.parametrize("scope", ["pair", "post"])
def test_the_pipeline_turns_a_pair_and_the_roles_of_its_data_once(scope, make_model, make_processor, make_pipe):
    model = make_model(order_blind=True, hypergraph_scope=scope)
    post = POST | {"pairs": [{"head": (2, 3), "tail": (0, 1)}, {"head": (2, 3), "tail": (4, 5)}]}
    post |= {"hypergraph": hypergraph_of(post)}
    with torch.no_grad():
        expected = model(**make_processor(model.config)([post])).logits.softmax(dim=-1).amax(dim=-1)
    answers = make_pipe(model=model)(post)
    assert [answer["score"] for answer in answers] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [(answer["head"], answer["tail"]) for answer in answers] == [("Ann", "Bob"), ("Bob", "Paris")]


def test_a_mention_that_is_both_ends_has_both_roles(make_post_model, found):
    post = {"tokens": POST["tokens"], "pairs": [{"head": (0, 1), "tail": (0, 1)}]}
    for held in (post, post | {"hypergraph": hypergraph_of(post)}):
        assert ("mention", {ANN: "", "pair 0": "ht"}) in found(make_post_model(), [held])


@ALL_MODES
def test_nodes_are_the_means_of_what_their_pairs_see(mode, make_post_model, make_processor):
    model = make_post_model(entity_representation=mode)
    inputs = make_processor(model.config)([POST])
    output = model.vmhan(**inputs)
    of_pairs = VMHANForRelationClassification(
        model.config.from_dict(model.config.to_dict() | {"hypergraph_scope": "pair"})
    )
    weights = {name: value for name, value in model.state_dict().items() if "role" not in name and "pair_" not in name}
    weights = {name: value for name, value in weights.items() if "classifier" not in name}
    of_pairs.load_state_dict(weights, strict=False)
    single = of_pairs.eval().vmhan(**make_processor(of_pairs.config)([POST]))
    ann, bob, paris, first, second, met, in_paris = output.initial_node_mean[0, :7]
    head, tail = single.initial_node_mean[:, 0], single.initial_node_mean[:, 1]
    close(torch.stack([ann, bob, paris]), torch.stack([head[0], (tail[0] + head[1]) / 2, tail[1]]))
    close(torch.stack([met, in_paris]), single.initial_node_mean[:, 2])
    assert (first - second).abs().max() > 1e-2
    assert output.node_mask.shape == (1, 11) and output.node_mask.all()


@ALL_MODES
@pytest.mark.parametrize("preset", ["full", "no_variational", *GRAPH_LAYERS])
def test_an_answer_depends_on_its_post_and_on_nothing_else(preset, mode, make_post_model, predict, posts, object_post):
    """On no other post and no padding; the order of the pairs is that of the answers."""
    model, batch = make_post_model(preset, entity_representation=mode), [*posts(), object_post()]
    together = predict(model, batch)
    close(together, torch.cat([predict(model, [post]) for post in batch]))
    post = batch[0]
    order = [2, 0, 1]
    turned = predict(model, [post | {"pairs": [post["pairs"][i] for i in order]}])
    close(turned, together[order])
    alone = predict(model, [post | {"pairs": post["pairs"][:1]}])
    assert (alone[0] - together[0]).abs().max() > 1e-3  # it depends on the other pairs


@ALL_MODES
def test_windows_of_a_long_post_share_its_hypergraph(mode, make_post_model, make_processor, predict):
    """A sentence of more tokens than a row: both pairs have rows of their own, and still tell each other."""
    words = ["ann", "met", *["and"] * 50, "bob", *["and"] * 50, "in", "paris"]
    post = {"tokens": words, "pairs": [{"head": (0, 1), "tail": (1, 2)}, {"head": (103, 104), "tail": (104, 105)}]}
    model = make_post_model(entity_representation=mode)
    processor = make_processor(model.config, max_length=32)

    def logits(post):
        inputs = processor([post])
        with torch.no_grad():
            return inputs["input_ids"].shape[0], model(**inputs).logits

    rows, both = logits(post)
    assert rows == 2
    for i in (0, 1):
        assert (both[i] - logits(post | {"pairs": post["pairs"][i : i + 1]})[1][0]).abs().max() > 1e-3
    close(logits(post | {"pairs": post["pairs"][::-1]})[1], both.flip(0))


@ALL_MODES
@pytest.mark.parametrize("preset", ["full", "no_variational", *GRAPH_LAYERS])
def test_every_parameter_has_a_gradient(preset, mode, make_post_model, encode, posts):
    model = make_post_model(preset, entity_representation=mode).train()
    model(**encode(model, posts())).loss.backward()
    still = [
        name
        for name, p in model.named_parameters()
        if not name.endswith("key.bias") and (p.grad is None or p.grad.abs().max() < 1e-7)
    ]
    assert still == []
    assert any("role" in name for name, _ in model.named_parameters()) == (preset not in GRAPH_LAYERS)


def test_edited_hyperedges_reach_the_model(make_post_model, make_processor, posts):
    """A mention loses one of its pairs, and a pair gets an object that it did not choose; other posts stay."""
    model = make_post_model()
    processor = make_processor(model.config)
    held = [post | {"hypergraph": hypergraph_of(post)} for post in posts()]
    edited = copy.deepcopy(held)
    nodes, hyperedges = edited[0]["hypergraph"]["nodes"], edited[0]["hypergraph"]["post_hyperedges"]
    mention = next(edge for edge in hyperedges if edge["family"] == "mention" and len(edge["nodes"]) > 2)
    for key in ("nodes", "roles"):
        mention[key] = mention[key][:-1]
    chosen = next(edge for edge in hyperedges if edge["family"] == "pair" and edge["pair"] == 1)
    chosen["nodes"].append(next(i for i, n in enumerate(nodes) if n["kind"] == "object" and n["index"] == 1))
    before, after = processor(held), processor(edited)
    changed = (before["membership"] != after["membership"]).nonzero().tolist()
    assert len(changed) == 2 and {post for post, *_ in changed} == {0}
    with torch.no_grad():
        first, second = model(**before).logits, model(**after).logits
    close(first[3:], second[3:])
    assert (first[:3] - second[:3]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "head-visual"}, r"post_hyperedges\[0\]: family .*'mention-visual'.*'head-visual'"),
        ({"pair": 3}, r"post_hyperedges\[0\]: pair .* 3 pairs, received 3"),
        ({"pair": None}, r"post_hyperedges\[0\]: pair .* 3 pairs, received None"),
        ({"nodes": [0, 99]}, r"post_hyperedges\[0\]: nodes .*\[99\].*hypergraph_of"),
        ({"roles": ["head"]}, r"post_hyperedges\[0\]: roles .*received \['head'\]"),
        ({"nodes": [0], "roles": ["tale"]}, r"post_hyperedges\[0\]: roles .*received \['tale'\]"),
        ({"roles": [3]}, "hypergraph must be .*received"),
        ({"nodes": None}, "hypergraph must be .*received"),
    ],
)
@pytest.mark.parametrize("scope", ["pair", "post"])
def test_a_wrong_hyperedge_is_named(scope, change, message, make_processor, posts):
    post = posts()[0] | {"hypergraph": hypergraph_of(posts()[0])}
    post["hypergraph"]["post_hyperedges"][0] |= change
    with pytest.raises(ValueError, match=f"post 'everything'.*{message}"):
        make_processor(hypergraph_scope=scope)([post])


def test_a_post_of_too_many_pairs_is_refused(make_processor):
    pairs = [{"head": (0, 1), "tail": (2, 3)}] * (MOST_PAIRS + 1)
    post = {"id": "long", "tokens": POST["tokens"], "pairs": pairs}
    assert len(make_processor()([post])["pair_to_example"]) == MOST_PAIRS + 1
    with pytest.raises(ValueError, match=f"'long'.*at most {MOST_PAIRS} pairs.*received {MOST_PAIRS + 1}.*'pair'"):
        make_processor(hypergraph_scope="post")([post])


def test_a_processor_of_the_other_scope_is_refused(make_post_model, make_processor, posts):
    with pytest.raises(ValueError, match="hypergraph_scope='post'.*membership"):
        make_post_model()(**make_processor()(posts()))


def test_saved_and_loaded_it_answers_alike(make_post_model, predict, posts, tmp_path):
    model = make_post_model()
    model.save_pretrained(tmp_path)
    loaded = VMHANForRelationClassification.from_pretrained(tmp_path)
    assert loaded.config.hypergraph_scope == "post"
    close(predict(loaded, posts()), predict(model, posts()), tolerance=0)


def test_the_pipeline_answers_the_pairs_of_a_post_together(make_post_model, make_pipe, posts):
    """A list of pairs is one hypergraph; one pair alone is a post of one pair. Three nodes a pair are sampled."""
    pipe, post = make_pipe(model=make_post_model()), posts()[0]
    question = {key: value for key, value in post.items() if key != "pairs"}
    pairs = [{key: pair[key] for key in ("head", "tail")} for pair in post["pairs"]]
    together = pipe(question | {"pairs": pairs})
    alone = [pipe(question | pair) for pair in pairs]
    assert all(abs(a["score"] - b["score"]) > 1e-4 for a, b in zip(together, alone))
    assert [a["score"] for a in alone] == pytest.approx([pipe(question | {"pairs": [p]})[0]["score"] for p in pairs])
    assert all(answer["uncertainty"]["mutual_information"] > 1e-4 for answer in together)


def test_an_explanation_is_of_the_whole_post(make_post_model, make_pipe, posts):
    """Each pair's has all nodes, its own head and tail among them, and the hyperedges by name, and so the picture."""
    pipe, post = make_pipe(model=make_post_model()), posts()[0]
    answers = pipe(post, explain=True)
    for pair, answer in enumerate(answers):
        nodes, hyperedges = answer["explanation"]["nodes"], answer["explanation"]["hyperedges"]
        texts = {kind: [node["text"] for node in nodes if node["kind"] == kind] for kind in {n["kind"] for n in nodes}}
        assert (texts["head"], texts["tail"]) == ([answer["head"]], [answer["tail"]])
        words = {"Ann", "Bob", "Paris", "Zulu band"} - {answer["head"], answer["tail"]}
        assert set(texts["mention"]) == words
        assert texts["pair"] == ["Ann - Bob", "Bob - Zulu band", "Paris - Ann"]
        assert sum(node["weight"] for node in nodes) == pytest.approx(1, abs=1e-5)
        own = [node["weight"] for node in nodes if node["kind"] == "pair"]
        assert max(own) == own[pair]  # half of a node's share is always its own, in each layer
        names = [edge["name"] for edge in hyperedges]
        assert names[:4] == ["pair: Ann - Bob", "pair: Bob - Zulu band", "pair: Paris - Ann", "mention: Ann"]
        assert names[-5:] == ["mention-visual: Zulu band", "mention-visual: Paris", "textual", "visual", "global"]
        by_name = {edge["name"]: {nodes[member["node"]]["text"] for member in edge["members"]} for edge in hyperedges}
        assert by_name["mention: Bob"] == {"Bob", "Ann - Bob", "Bob - Zulu band"}
        assert all(sum(member["weight"] for member in edge["members"]) == pytest.approx(1) for edge in hyperedges)
        picture = np.asarray(answer["explanation"]["picture"])
        assert (picture == NODE_COLOURS["pair"]).all(axis=-1).sum() > 1000


def test_an_explanation_leaves_out_a_mention_that_is_of_no_pair(make_post_model, make_pipe):
    """It is in a hyperedge of the data and no node of the model."""
    hypergraph = hypergraph_of(POST)
    mention = next(edge for edge in hypergraph["post_hyperedges"] if edge["family"] == "mention")
    mention["nodes"].insert(0, len(hypergraph["nodes"]))
    mention["roles"].insert(0, None)
    hypergraph["nodes"].append({"kind": "mention", "span": [1, 2]})
    (answer, _) = make_pipe(model=make_post_model())(POST | {"hypergraph": hypergraph}, explain=True)
    names = [edge["name"] for edge in answer["explanation"]["hyperedges"]]
    assert names[2:5] == ["mention: Ann", "mention: Bob", "mention: Paris"]
    assert "met" not in [node["text"] for node in answer["explanation"]["nodes"] if node["kind"] == "mention"]


def test_the_picture_of_very_many_pairs_shows_the_heaviest(make_post_model, make_pipe):
    tokens = [*"Ann met Bob in Paris with the Zulu band at night".split()]
    pairs = [{"head": (i, i + 1), "tail": (j, j + 1)} for i in range(8) for j in range(8) if i != j]
    answers = make_pipe(model=make_post_model())({"tokens": tokens, "pairs": pairs}, explain=True)
    assert len(answers) == 56 and len(answers[0]["explanation"]["nodes"]) == 64
    assert answers[0]["explanation"]["picture"].height < 1500


def toy_post(friend, place, label):
    """The label of (friend, bob) is told by the place, which only the pair (bob, place) has; no word knows another."""
    pairs = [{"head": (0, 1), "tail": (2, 3), "relation": label}, {"head": (2, 3), "tail": (4, 5), "relation": "None"}]
    return {"tokens": [friend, "met", "bob", "in", place], "pairs": pairs}


@pytest.mark.parametrize("scope", ["pair", "post"])
def test_what_only_another_pair_tells_is_learned_in_the_post_s_scope(scope, make_model, make_text_config, encode):
    """A text encoder without layers: each word stands for itself, and the encoder tells the pairs nothing."""
    told = {"paris": "peer", "band": "peer", "stage": "member_of", "car": "member_of"}
    posts = [toy_post(friend, place, label) for friend in ("ann", "they") for place, label in told.items()]
    fields = {"text_config": make_text_config(num_hidden_layers=0), "entity_representation": "span"}
    fields |= {"visual_feature_size": 0, "num_image_phrases": 0, "num_text_phrases": 0, "initializer_range": 0.1}
    model = make_model(hypergraph_scope=scope, **fields).train()
    inputs = encode(model, posts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = model.eval()(**inputs).logits[::2]  # of the first pair of each post
    is_right = logits.argmax(dim=-1) == inputs["labels"][::2]
    assert is_right.all() if scope == "post" else is_right.sum() == 4  # by either friend all are alike
    assert (logits.unflatten(0, (2, 4)).std(dim=1).max() > 1e-3) == (scope == "post")


def test_labels_are_not_needed(make_post_model, encode, posts):
    model = make_post_model()
    inputs = encode(model, posts())
    close(model(**without_labels(inputs)).logits, model(**inputs).logits, tolerance=0)
