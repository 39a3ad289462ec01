"""What a step costs beyond its arithmetic: no wait for the device, no graph break, no precision lost to autocast."""

import copy
import logging

import pytest
import torch
from tiny import ALL_MODES
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_vmhan import PRESETS, VMHANForRelationClassification
from modeling_vmhan.graph_layers import (
    GaussianGraphConvolution,
    GraphAttention,
    GraphConvolution,
    HypergraphConvolution,
)
from modeling_vmhan.hypergraph import build_incidence
from modeling_vmhan.layers import VariationalHypergraphAttention
from modeling_vmhan.nodes import VisualProjection
from modeling_vmhan.variational import initial_hyperedges


# one preset of each hypergraph and each layer; the others differ in numbers only
DIFFERENT = ("full", "no_hypergraph", "no_variational", "no_vhan", "hgnn", "variational_gcn", "gcn", "gat")
PAPER = ("global", "intra", "inter")
LAYERS = {
    "vhan": lambda: VariationalHypergraphAttention(hidden_size=8, num_heads=2),
    "vhan_mean": lambda: VariationalHypergraphAttention(hidden_size=8, num_heads=2, variational=False),
    "hgnn": lambda: HypergraphConvolution(hidden_size=8),
    "gcn": lambda: GraphConvolution(hidden_size=8),
    "variational_gcn": lambda: GaussianGraphConvolution(hidden_size=8, variance_eps=1e-6),
    "gat": lambda: GraphAttention(hidden_size=8, num_heads=2),
}


@pytest.fixture(autouse=True)
def no_compiled_code_of_other_tests(monkeypatch):
    """Nor torch's log of its own tracing, which pytest would keep: it takes longer than the tracing."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    torch._dynamo.reset()


@ALL_MODES
@pytest.mark.parametrize(("preset", "scope"), [*((preset, "pair") for preset in PRESETS), ("full", "post")])
def test_a_training_step_never_asks_the_device_for_a_value(preset, scope, mode, make_config, make_processor, posts):
    """On the meta device there are shapes and no values: `.item()`, `bool(tensor)`, `tensor[mask]` ... raise."""
    config = make_config(preset, entity_representation=mode, hypergraph_scope=scope)
    with torch.device("meta"):
        model = VMHANForRelationClassification(config).train()
    inputs = make_processor(config)(posts(), label2id=config.label2id)
    output = model(**{name: value.to("meta") for name, value in inputs.items()})
    output.loss.backward()
    assert output.logits.is_meta and model.classifier.weight.grad.is_meta


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_nor_with_the_other_encoders_that_take_a_4d_mask(
    model_type, attention, make_config, make_text_config, make_processor, roberta_tokenizer, posts
):
    config = make_config(text_config=make_text_config(model_type))
    with torch.device("meta"):
        model = VMHANForRelationClassification(config)
    model.vmhan.text_encoder.set_attn_implementation(attention)
    inputs = make_processor(config, roberta_tokenizer)(posts())
    model(**{name: value.to("meta") for name, value in inputs.items()}).logits.sum().backward()
    assert model.classifier.weight.grad.is_meta


@pytest.mark.parametrize("scope", ["pair", "post"])
def test_the_whole_model_is_one_graph_for_batches_of_any_size(scope, make_model, make_text_config, encode, posts):
    """No graph break (fullgraph), the eager outputs, and no compilation after the first batch.

    Whose sizes all differ: torch takes two that are the same for one, and compiles once more when they part.
    """
    fields = {"text_config": make_text_config(num_hidden_layers=1), "hypergraph_scope": scope}
    model = make_model(entity_representation="packed", **fields)
    counter = CompileCounter()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    for batch in ([*posts(), *posts()[:2]], posts()[:3], posts() * 2):
        inputs = encode(model, batch)
        output, expected = compiled(**inputs), model(**inputs)
        torch.testing.assert_close(output.logits, expected.logits)
        torch.testing.assert_close(output.loss, expected.loss)
    assert counter.frame_count == 1


class Products(TorchDispatchMode):
    """The operands of every batched matrix product."""

    def __init__(self):
        super().__init__()
        self.operands = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.bmm.default:
            self.operands.append(args)
        return function(*args, **(kwargs or {}))


def test_no_gradient_multiplies_transposed_scores_by_transposed_states():
    """MKL takes sixty times as long over 160 such products of 5 x 6 by 6 x 96 as over others."""
    mean, d_head = torch.randn(3, 6, 64).requires_grad_(), 32
    incidence = torch.ones(3, 6, 5, dtype=torch.bool)
    layer = VariationalHypergraphAttention(hidden_size=2 * d_head, num_heads=2)
    variance = mean.square() + 1
    with Products() as products:
        layer(mean, variance, *initial_hyperedges(mean, variance, incidence), incidence).node_mean.sum().backward()
    wide = [operands for operands in products.operands if operands[1].shape[-1] == d_head]
    assert wide and not [operands for operands in wide if all(each.stride(-2) == 1 for each in operands)]


@pytest.mark.parametrize(("name", "families"), [*((name, PAPER) for name in LAYERS), ("vhan", ("pairwise",))])
def test_every_hypergraph_and_layer_compiles_without_a_break(name, families):
    layer, variational = LAYERS[name](), name in ("vhan", "variational_gcn")

    def propagate(features, node_mask, node_is_visual):
        incidence = build_incidence(node_mask, node_is_visual, families=families)
        mean, variance = features, features.square() + 1 if variational else None
        return layer(mean, variance, *initial_hyperedges(mean, variance, incidence), incidence).node_mean

    inputs = torch.randn(3, 5, 8), torch.rand(3, 5) < 0.8, torch.rand(3, 5) < 0.5
    compiled = torch.compile(propagate, fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(compiled(*inputs), propagate(*inputs))


def test_the_visual_projection_trains_compiled_as_it_does_eagerly():
    torch.manual_seed(0)
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    other = copy.deepcopy(projection)
    compiled = torch.compile(projection, fullgraph=True, dynamic=False, backend="aot_eager")
    for _ in range(2):
        features, mask = torch.rand(3, 2, 6), torch.tensor([[True, True], [True, False], [False, True]])
        for forward in (compiled, other):
            forward(features, mask).square().sum().backward()
    for name, value in other.state_dict().items():
        torch.testing.assert_close(projection.state_dict()[name], value)
    torch.testing.assert_close(projection.linear.weight.grad, other.linear.weight.grad)


@pytest.mark.parametrize(("preset", "scope"), [*((preset, "pair") for preset in DIFFERENT), ("full", "post")])
def test_the_losses_under_autocast_are_those_of_float32(preset, scope, make_model, encode, posts):
    fields = {"initializer_range": 0.05, "hypergraph_scope": scope}
    model = make_model(preset, entity_representation="packed", **fields).train()
    inputs = encode(model, posts())
    expected = model(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs)
    assert output.logits.dtype == torch.bfloat16  # the products are in bfloat16
    for name in ("loss", "relation_loss", "reconstruction_loss", "kl_loss"):
        assert (name in output) == (name in expected)
        if name in expected:
            assert output[name].dtype == torch.float32
            torch.testing.assert_close(output[name], expected[name], rtol=0.02, atol=1e-4)
    output.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
