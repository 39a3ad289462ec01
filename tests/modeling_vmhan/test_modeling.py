"""The model as a whole: presets, invariances, missing modalities, losses, outputs, and what it refuses."""

import copy
import math
import random

import pytest
import torch
from tiny import ALL_MODES, close, without_labels

from modeling_vmhan import PRESETS


ALL_PRESETS = pytest.mark.parametrize("preset", PRESETS)
# Parameters whose gradient is zero by construction: a key's bias shifts all scores of a query alike (in any BERT).
WITHOUT_EFFECT = ("key.bias",)
NOT_VARIATIONAL = {"no_variational", "hgnn", "gcn", "gat", "text_only", "caption_appended"}
NO_PROPAGATION = {"no_vhan", "text_only", "caption_appended"}
SEES_REGIONS = pytest.mark.parametrize("preset", [p for p in PRESETS if "visual_feature_size" not in PRESETS[p]])


# text phrases, and which of image, objects and image phrases, of each pair of `posts`
COUNTS = [(2, "1111111"), (0, "1110111"), (1, "1111111"), (1, "0000000"), (0, "1000000"), (0, "1110100")]


def differ(first, second):
    return not torch.allclose(first, second, rtol=0, atol=1e-4)


@ALL_MODES
@ALL_PRESETS
def test_forward_losses_and_gradients(preset, mode, make_model, encode, posts):
    model = make_model(preset, entity_representation=mode).train()
    output = model(**encode(model, posts()))
    config = model.config
    assert output.logits.shape == (6, 4) and output.logits.isfinite().all()
    assert (output.kl_loss is None) == (preset in NOT_VARIATIONAL)
    names = [name for name in ("relation_loss", "reconstruction_loss", "kl_loss") if name in output]
    terms = [(getattr(config, f"{name}_weight"), output[name]) for name in names]
    assert all(term.isfinite() and term >= 0 for _, term in terms)
    assert (output.reconstruction_loss == 0) == (preset in NO_PROPAGATION)  # where nothing moves the nodes
    close(output.loss, sum(weight * term for weight, term in terms))  # equation 12

    output.loss.backward()
    largest = {
        name: 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
        for name, parameter in model.named_parameters()
        if not name.endswith(WITHOUT_EFFECT)
    }
    assert all(math.isfinite(value) for value in largest.values())
    assert [name for name, value in largest.items() if value < 1e-7] == []


@pytest.mark.parametrize("representation", ["marker", "packed"])
def test_activation_checkpointing_changes_no_gradient(make_model, encode, posts, representation):
    """The encoder's states are computed again in the backward pass, and the gradients stay what they were."""
    gradients = []
    for checkpointing in (False, True):
        model = make_model(entity_representation=representation).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        model(**encode(model, posts())).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@ALL_MODES
def test_the_nodes_of_each_pair(mode, make_model, encode, posts):
    """Head, tail, two text phrases; image, three objects, three image phrases. 1 where a pair has the node."""
    model = make_model(entity_representation=mode)
    output = model.vmhan(**without_labels(encode(model, posts())))
    assert ["".join(str(int(present)) for present in pair) for pair in output.node_mask] == [
        f"11{'1' * phrases:0<2}{visual}" for phrases, visual in COUNTS
    ]
    assert output.node_is_visual.tolist() == [[False] * 4 + [True] * 7] * 6


@ALL_PRESETS
def test_every_preset_learns_four_rows(preset, make_model, encode, posts):
    model = make_model(preset, entity_representation="span", initializer_range=0.1).train()
    four = posts()
    four[0]["pairs"] = four[0]["pairs"][:1]
    inputs = encode(model, four)
    assert inputs["labels"].tolist() == [0, 3, 2, 1]  # one row of each label
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        output = model(**inputs)
        if (output.logits.argmax(dim=-1) == inputs["labels"]).all() and output.relation_loss < 0.1:
            return
        output.loss.backward()
        optimizer.step()
    pytest.fail(f"{preset} did not learn four rows: cross-entropy {output.relation_loss:.3f} after 60 steps")


@ALL_MODES
@pytest.mark.parametrize("preset", ["full", "gat", "no_hypergraph"])
def test_batch_composition_and_padding_change_nothing(preset, mode, make_model, predict, posts):
    model = make_model(preset, entity_representation=mode)
    together = predict(model, posts())
    alone = torch.cat([predict(model, [post]) for post in posts()])
    close(together, alone)
    close(predict(model, posts()[::-1]), torch.cat([predict(model, [post]) for post in posts()[::-1]]))
    assert differ(together[0], together[1]) and differ(together[0], together[3])  # and they are not all the same


@ALL_MODES
def test_a_pairs_logits_do_not_depend_on_its_sentences_other_pairs(mode, make_model, predict, posts):
    model = make_model(entity_representation=mode)
    post = posts()[0]
    together = predict(model, [post])
    for index, pair in enumerate(post["pairs"]):
        close(together[index : index + 1], predict(model, [{**post, "pairs": [pair]}]))
    close(together.flip(0), predict(model, [{**post, "pairs": post["pairs"][::-1]}]))


@ALL_MODES
def test_the_direction_of_a_pair_matters(mode, make_model, predict, posts):
    model, post = make_model(entity_representation=mode), posts()[3]
    (pair,) = post["pairs"]
    swapped = {**pair, "head": pair["tail"], "tail": pair["head"]}
    assert differ(predict(model, [post]), predict(model, [{**post, "pairs": [swapped]}]))


@ALL_PRESETS
def test_the_order_of_the_objects_does_not_matter(preset, make_model, predict, posts):
    model = make_model(preset, num_objects=4)
    post = posts()[0]
    order = [2, 0, 3, 1]
    permuted = {**post, "object_features": [post["object_features"][i] for i in order]}
    permuted["pairs"] = [dict(pair) for pair in post["pairs"]]
    permuted["pairs"][1]["objects"] = [order.index(i) for i in post["pairs"][1]["objects"]]
    close(predict(model, [post]), predict(model, [permuted]))


def test_every_given_thing_matters(make_model, predict, posts):
    """Text, phrases, image, objects and image phrases all reach the logits; what a pair did not choose does not."""
    model, post = make_model(), posts()[0]
    plain = predict(model, [post])

    def changed(name, value):
        return predict(model, [{**post, name: value}])

    assert differ(plain, changed("tokens", "Ann met Bob in Paris with the big band".split()))
    assert differ(plain, changed("image_features", [-x for x in post["image_features"]]))
    assert differ(plain, changed("caption", "a red car and a big stage"))
    assert differ(plain, changed("image_phrases", ["red car", "big stage"]))
    no_phrases = [{**pair, "text_phrases": []} for pair in post["pairs"]]
    assert differ(plain[0], changed("pairs", no_phrases)[0])
    first, *others = post["object_features"]
    without_first = changed("object_features", [[-x for x in first], *others])
    assert all(differ(plain[pair], without_first[pair]) for pair in range(3))
    second = [first, [-x for x in others[0]], *others[1:]]
    with_second = changed("object_features", second)
    assert differ(plain[0], with_second[0])
    close(plain[1], with_second[1])  # pair 1 chose objects 3 and 0


def test_evaluation_is_deterministic_and_dropout_acts_in_training(make_model, predict, encode, posts):
    model = make_model(classifier_dropout=0.5)
    close(predict(model, posts()), predict(model, posts()), tolerance=0)
    inputs = encode(model, posts())
    model.train()
    assert differ(model(**inputs).logits, model(**inputs).logits)


@ALL_PRESETS
def test_a_pair_without_an_image_is_predicted(preset, make_model, predict, posts):
    model = make_model(preset)
    imageless = posts()[1]
    assert predict(model, [imageless]).isfinite().all()
    bare = {"tokens": imageless["tokens"], "pairs": [{**imageless["pairs"][0], "text_phrases": []}]}
    assert predict(model, [bare, bare]).isfinite().all()
    close(predict(model, [bare, imageless])[1:], predict(model, [imageless]))


def test_an_imageless_batch_trains_without_nan(make_model, encode, posts):
    model = make_model().train()
    output = model(**encode(model, posts()[1]))
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    grad = model.vmhan.visual_projection.linear.weight.grad
    assert grad is None or not grad.any()  # no image, nothing to learn about images


def test_an_absent_image_is_not_an_image_of_zeros(make_model, predict, posts):
    model = make_model()
    post = posts()[1]
    zeros = {**post, "image_features": [0.0] * 8}
    assert differ(predict(model, [post]), predict(model, [zeros]))


def test_a_text_model_ignores_images(make_model, predict, posts):
    model = make_model(visual_feature_size=0)
    assert model.vmhan.visual_projection is None
    without = [{k: v for k, v in post.items() if k not in ("image_features", "object_features")} for post in posts()]
    for post in without:
        for pair in post["pairs"]:
            pair.pop("objects", None)
    close(predict(model, posts()), predict(model, without))


@ALL_MODES
def test_a_visual_tail_is_its_region(mode, make_model, encode, object_post):
    model = make_model(entity_representation=mode)
    post = object_post()
    inputs = encode(model, post)
    del inputs["labels"]
    base = model.vmhan
    output = base(**inputs)
    assert output.node_is_visual[:, :2].tolist() == [[False, True], [False, True]]
    assert output.node_mask[:, :2].all()
    regions = torch.tensor([post["object_features"][2], post["object_features"][0]])
    projected = base.visual_projection(regions.unsqueeze(1), torch.ones(2, 1, dtype=torch.bool)).squeeze(1)
    close(output.initial_node_mean[:, 1], base.gaussian_nodes(projected)[0])


def test_the_loss_terms_are_those_of_the_paper(make_model, encode, posts):
    """Equations 9 to 11 from the Gaussians the model itself reports."""
    model = make_model()
    inputs = encode(model, posts())
    output = model(**inputs)
    labels = inputs.pop("labels")
    nodes = model.vmhan(**inputs)
    mask = nodes.node_mask
    close(output.relation_loss, -output.logits.log_softmax(dim=-1)[range(6), labels].mean())
    normal = torch.distributions.Normal
    posterior = normal(nodes.node_mean, nodes.node_variance.sqrt())
    divergence = torch.distributions.kl_divergence(posterior, normal(0.0, 1.0))
    close(output.kl_loss, divergence.mean(dim=-1)[mask].mean())
    moved = (nodes.node_mean - nodes.initial_node_mean) ** 2 + (nodes.node_variance - nodes.initial_node_variance) ** 2
    close(output.reconstruction_loss, moved.mean(dim=-1)[mask].mean())


def test_what_the_classifier_reads(make_model, encode, posts):
    """Equation 9: [h_mu; h_var; t_mu; t_var]."""
    model = make_model()
    output = model(**encode(model, posts()), output_gaussians=True)
    head, tail = (torch.cat([output.node_mean[:, i], output.node_variance[:, i]], dim=-1) for i in (0, 1))
    close(output.logits, model.classifier(torch.cat([head, tail], dim=-1)))


def test_without_propagation_the_classifier_also_reads_the_averages(make_model, encode, posts):
    model = make_model("no_vhan")
    output = model(**encode(model, posts()), output_gaussians=True)
    read = []
    for pair, count in enumerate(COUNTS):
        for nodes in ([0], [1], range(2, 2 + count[0]), [4 + i for i in range(7) if count[1][i] == "1"]):
            for values, power in ((output.node_mean, 1), (output.node_variance, 2)):
                members = [values[pair, node] for node in nodes]
                read.append(sum(members) / len(members) ** power if members else torch.zeros(32))
    close(output.logits, model.classifier(torch.stack(read).view(6, -1)))


@pytest.mark.parametrize(
    ("preset", "read"),
    [
        ("no_vhan", {"image", "objects", "caption", "text phrases", "image phrases"}),
        ("caption_appended", {"caption"}),
        ("text_only", set()),
    ],
)
def test_what_models_without_propagation_read(preset, read, make_model, predict, posts):
    model, post = make_model(preset), posts()[0]

    def changed(**of_pair):
        return {"pairs": [{**pair, **of_pair} for pair in post["pairs"]]}

    changes = {
        "image": {"image_features": [-x for x in post["image_features"]]},
        "objects": {"object_features": [[-x for x in features] for features in post["object_features"]]},
        "caption": {"caption": "at night in Paris"},
        "text phrases": changed(text_phrases=[(2, 4)]),
        "image phrases": changed(image_phrases=[1]),
    }
    before = predict(model, [post])
    assert {name for name, change in changes.items() if differ(before, predict(model, [{**post, **change}]))} == read


@pytest.mark.parametrize("num_layers", [1, 2])
def test_equations_5_and_6_take_two_layers(num_layers, make_model, encode, posts):
    """What updates a hyperedge is not there in the last layer, and in the one before it the logits depend on it."""
    model = make_model(num_layers=num_layers)
    model(**without_labels(encode(model, posts()))).logits.square().sum().backward()
    found = {name: p.grad.abs().max() > 1e-7 for name, p in model.vmhan.layers.named_parameters() if "edge_" in name}
    updates = {"0.edge_mean_value.weight", "0.edge_variance_value.weight"} if num_layers == 2 else set()
    assert {name for name in found if "value" in name} == updates and all(found.values())


@pytest.mark.parametrize("start", ["members", "entities"])
@pytest.mark.parametrize("num_layers", [2, 3])
def test_the_visual_hyperedge_takes_three_layers(num_layers, start, make_model, encode, posts):
    """Head and tail are not in it: what it has read must reach an object and from there one of their hyperedges."""
    model = make_model(num_layers=num_layers, hyperedge_start=start, initializer_range=0.3).eval()
    batch, seen = without_labels(encode(model, posts()[:1])), []
    handle = model.vmhan.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[4]))
    whole = model(**batch).logits
    handle.remove()
    for column, name in enumerate(("global", "textual", "visual", "head-visual", "tail-visual")):
        without = seen[0].clone()
        without[..., column] = False
        is_same = torch.equal(model(incidence=without, **batch).logits, whole)
        assert is_same == (name == "visual" and num_layers == 2), name


@pytest.mark.parametrize("preset", ["full", "gat", "no_vhan"])
def test_optional_outputs(preset, make_model, encode, posts):
    model = make_model(preset)
    inputs = encode(model, posts())
    labels = inputs.pop("labels")
    plain = model(**inputs)
    assert list(plain.keys()) == ["logits"]  # no loss without labels, nothing that was not asked for

    pairs, nodes, edges, size, heads = 6, 2 + 2 + 1 + 3 + 3, 4 if preset == "gat" else 5, 32, 4
    output = model(**inputs, labels=labels, output_gaussians=True, output_attentions=True)
    assert output.node_mean.shape == (pairs, nodes, size)
    assert output.edge_mean.shape == (pairs, edges, size)
    if preset == "full":
        assert output.node_variance.shape == (pairs, nodes, size) and (output.node_variance > 0).all()
        assert output.edge_variance.shape == (pairs, edges, size)
        assert len(output.attentions) == model.config.num_layers
        for node_to_edge, edge_to_node in output.attentions:
            assert node_to_edge.shape == (pairs, heads, edges, nodes)
            assert edge_to_node.shape == (pairs, heads, nodes, edges)
    close(output.logits, plain.logits)


def test_an_empty_batch_is_refused(make_model, encode, posts):
    model = make_model()
    inputs = without_labels(encode(model, posts()))
    of_pairs = [name for name in inputs if name.startswith("pair_") or "tokens" in name]
    empty = inputs | {name: inputs[name][:0] for name in of_pairs}
    with pytest.raises(ValueError, match=r"no entity pair \(P = 0\)"):
        model(**empty)


def test_a_visual_model_needs_features(make_model, encode, posts, make_processor):
    model = make_model()
    inputs = make_processor(visual_feature_size=0)(posts())
    with pytest.raises(ValueError, match="built with visual_feature_size=8 and got no image_features"):
        model(**inputs)


@ALL_MODES
def test_pairs_that_could_share_a_window_have_the_same_logits_in_any_company(mode, make_model, encode):
    model, draw = make_model(entity_representation=mode), random.Random(0)
    for length in (20, 24, 28, 40, 70):
        words = [draw.choice(["ann", "bob", "paris", "band", "red", "car", "stage", "sky"]) for _ in range(length)]
        starts = [(first, first + draw.randrange(2, 9)) for first in (draw.randrange(length - 9) for _ in range(6))]
        pairs = [{"head": (a, a + 1), "tail": (b, b + 1), "relation": 0} for a, b in starts]
        with torch.no_grad():
            whole = model(**encode(model, {"tokens": words, "pairs": pairs}, max_length=24)).logits
            each = [model(**encode(model, {"tokens": words, "pairs": [pair]}, max_length=24)).logits for pair in pairs]
        close(whole, torch.cat(each))


@ALL_PRESETS
def test_a_preset_changes_the_logits_or_the_loss(preset, make_model, encode, posts):
    full, other = make_model(), make_model(preset)
    shared = {name: value for name, value in full.state_dict().items() if name in other.state_dict()}
    if full.classifier.weight.shape == other.classifier.weight.shape:
        other.load_state_dict(shared, strict=False)
    outputs = [model(**encode(model, posts())) for model in (full, other)]
    changed = differ(outputs[0].logits, outputs[1].logits) or differ(outputs[0].loss, outputs[1].loss)
    assert changed == (preset != "full")


@SEES_REGIONS
def test_a_visual_tail_is_read_and_its_object_may_move(preset, make_model, predict, object_post):
    model, post = make_model(preset), object_post()
    logits = predict(model, [post])
    features = post["object_features"]
    other = predict(model, [{**post, "object_features": [features[0], features[1], [-x for x in features[2]]]}])
    assert differ(logits[0], other[0])
    moved = copy.deepcopy(post) | {"object_features": features[::-1]}
    for pair in moved["pairs"]:
        pair["tail_object"] = 2 - pair["tail_object"]
    close(predict(model, [moved]), logits)
