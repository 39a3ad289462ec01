"""The fusion models among the baselines: their parts against the formulas, and each of them whole."""

from unittest.mock import Mock

import pytest
import torch
import torchvision
from torch import nn
from transformers import AutoModel

from vmhan.baselines import BASELINES
from vmhan.baselines.bert_layers import attend, embed, finish_layer, project
from vmhan.baselines.mega import GraphAlignment, structural_alignment, structural_features, text_graph
from vmhan.baselines.mkgformer import MEncoder, correlate
from vmhan.baselines.pyramid import PyramidEncoder
from vmhan.baselines.visual_prefix import GatedAggregation, encode_with_prefix


@pytest.fixture(scope="module")
def make_encoder(make_text_config):
    def make(model_type="bert"):
        torch.manual_seed(0)
        return AutoModel.from_config(make_text_config(model_type, initializer_range=0.2)).eval()

    return make


@pytest.fixture(scope="module")
def rows():
    """Ids and mask of two rows of 5 and 3 tokens."""
    ids = torch.tensor([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}


class TestLayers:
    @pytest.mark.parametrize("model_type", ["bert", "roberta"])
    def test_an_empty_prefix_gives_the_encoders_own_states(self, make_encoder, rows, model_type):
        encoder, real = make_encoder(model_type), rows["attention_mask"].bool()
        none = torch.zeros(2, 2, 0, 64), torch.zeros(2, 0, dtype=torch.bool)
        with torch.no_grad():
            states = encode_with_prefix(encoder, rows, *none)
            expected = encoder(**rows).last_hidden_state
        torch.testing.assert_close(states[real], expected[real], atol=1e-5, rtol=0)

    def test_prefix_attention_is_the_formula(self, make_encoder, rows):
        """One layer, one row, by hand: softmax(Q [prefix_k; K]^T / sqrt(d)) [prefix_v; V] of each head."""
        encoder, layer = make_encoder(), make_encoder().encoder.layer[0]
        states, mask = embed(encoder, {name: tensor[:1] for name, tensor in rows.items()})
        prefix = torch.randn(2, 1, 2, 3, 16)  # key and value of two heads, three positions
        query, key, value, dropout = project(layer, states)
        key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
        found = attend(query, key, value, torch.cat([mask.new_ones(1, 3), mask], dim=1), dropout)
        for head in range(2):
            weights = (query[0, head] @ key[0, head].T / 4).softmax(dim=-1)
            torch.testing.assert_close(found[0, :, 16 * head : 16 * head + 16], weights @ value[0, head])

    def test_fusion_is_added_before_the_activation(self, make_encoder):
        layer = make_encoder().encoder.layer[0]
        states, context, fusion = torch.randn(1, 4, 32), torch.randn(1, 4, 32), torch.randn(1, 4, 48)
        attended = layer.attention.output(context, states)
        inner = nn.functional.gelu(layer.intermediate.dense(attended) + fusion)
        torch.testing.assert_close(finish_layer(layer, states, context, fusion), layer.output(inner, attended))


class TestPyramid:
    def test_weights_are_torchvisions(self, monkeypatch):
        """What torchvision would download is loaded under our names, all of it but the classifier."""
        torch.manual_seed(1)
        whole = torchvision.models.resnet18(weights=None).eval()
        weights = torchvision.models.ResNet18_Weights
        monkeypatch.setattr(weights, "get_state_dict", lambda self, **kwargs: whole.state_dict())
        encoder = PyramidEncoder.from_weights("resnet18", "imagenet")
        pixels = torch.randn(1, 3, 64, 64)
        pooled = encoder(pixels)[:, :, -512:].mean(dim=1)
        torch.testing.assert_close(whole.fc(pooled), whole(pixels))
        assert encoder(pixels).shape == (1, 4, encoder.feature_size) and encoder.feature_size == 960
        assert not any(parameter.requires_grad for parameter in encoder.parameters())

    def test_random_weights_have_a_seed_of_their_own(self):
        state = torch.get_rng_state()
        first, again, other = (PyramidEncoder.from_weights("resnet18", f"random:{seed}") for seed in (1, 1, 2))
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(first.stem[0].weight, again.stem[0].weight)
        assert not torch.equal(first.stem[0].weight, other.stem[0].weight)

    def test_errors(self, monkeypatch):
        for name, weights, received in [("vgg16", "random:0", "'vgg16'"), ("resnet18", "coco", "'coco'")]:
            with pytest.raises(ValueError, match=f"received {received}"):
                PyramidEncoder.from_weights(name, weights)
        offline = Mock(side_effect=OSError("offline"))
        monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
        with pytest.raises(OSError, match="resnet18 .*https.*offline"):
            PyramidEncoder.from_weights("resnet18", "imagenet")


class TestGatedAggregation:
    def test_gates_sum_to_one_and_mix_the_blocks(self):
        torch.manual_seed(0)
        aggregation = GatedAggregation(feature_size=6, hidden_size=8, num_layers=3, middle_size=5)
        pyramid = torch.randn(2, 4, 6)
        blocks = aggregation.blocks(pyramid)
        gate = aggregation.gate(blocks)
        assert blocks.shape == (2, 4, 4, 16) and gate.shape == (2, 3, 4)
        torch.testing.assert_close(gate.sum(dim=-1), torch.ones(2, 3))
        mean = sum(blocks[1, :, i] for i in range(4)) / 4
        scores = nn.functional.leaky_relu(aggregation.gates[2](mean.reshape(-1)))
        torch.testing.assert_close(gate[1, 2], scores.softmax(dim=-1))
        prefix = aggregation(pyramid)
        assert prefix.shape == (2, 3, 4, 16)
        torch.testing.assert_close(prefix[1, 2], sum(gate[1, 2, i] * blocks[1, :, i] for i in range(4)))


class TestMEncoder:
    def test_correlation_by_hand(self):
        text, visual = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[2.0, 1.0], [0.0, 3.0], [9.0, 9.0]]])
        e2, e0 = torch.tensor([2.0, 0.0]).exp()
        expected = (e2 * visual[0, 0] + e0 * visual[0, 1]) / (e2 + e0)
        found = correlate(text, visual, torch.tensor([[True, True, False]]))
        torch.testing.assert_close(found[0, 0], expected)

    def test_without_fusion_weights_the_text_stream_is_the_encoders(self, make_encoder, rows):
        encoder, fusion = make_encoder(), self.make()
        nn.init.zeros_(fusion.fusions[0].weight)
        with torch.no_grad():
            text, _ = fusion(encoder, rows, *self.visual())
            expected = encoder(**rows).last_hidden_state
        real = rows["attention_mask"].bool()
        torch.testing.assert_close(text[real], expected[real], atol=1e-5, rtol=0)

    def test_the_text_guides_the_visual_stream_in_the_last_layers_only(self, make_encoder, rows):
        """The last visual layer reads keys and values of the text layer below it; padding tokens are not read."""
        encoder, fusion = make_encoder(), self.make()
        visual, mask = self.visual()
        changed = {**rows, "input_ids": rows["input_ids"].clone()}
        changed["input_ids"][0, 1], changed["input_ids"][1, 3] = 30, 30  # a word of row 0, padding of row 1
        with torch.no_grad():
            _, before = fusion(encoder, rows, visual, mask)
            _, after = fusion(encoder, changed, visual, mask)
            alone = visual
            for layer in fusion.visual_layers:
                alone = layer(alone, mask)
        assert not torch.allclose(before[0], after[0], atol=1e-4)
        torch.testing.assert_close(before[1], after[1])
        assert not torch.allclose(before[0], alone[0], atol=1e-4)

    @staticmethod
    def make():
        torch.manual_seed(1)
        return MEncoder(num_layers=2, hidden_size=32, num_heads=2, intermediate_size=48).eval()

    @staticmethod
    def visual():
        torch.manual_seed(2)
        return torch.randn(2, 3, 32), torch.tensor([[True, True, True], [True, False, False]])


class TestGraphs:
    def test_the_text_graph_is_a_chain_and_a_clique_of_key_tokens(self):
        graph = text_graph(torch.tensor([[0, 2, 4], [1, -1, -1]]), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]))
        edges = {(i, j) for i, j in graph[0].nonzero().tolist() if i < j}
        assert edges == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (0, 4), (2, 4)}
        assert {(i, j) for i, j in graph[1].nonzero().tolist() if i < j} == {(0, 1), (1, 2)}
        assert torch.equal(graph, graph.transpose(1, 2))

    def test_structural_features_by_hand(self):
        """A star of four nodes and a lone one: the centre has degree 3 (bucket 1), the leaves 1 (bucket 0)."""
        adjacency = torch.zeros(1, 6, 6, dtype=torch.bool)
        adjacency[0, 0, 1:4] = adjacency[0, 1:4, 0] = True
        found = structural_features(adjacency, torch.tensor([[True, True, True, True, True, False]]))[0]
        centre = [0.01 * 3, 1.0]  # itself, then the three leaves
        leaf = [1 + 0.0001 * 2, 0.01]  # itself and two leaves two hops away; the centre one hop away
        expected = torch.tensor([centre, leaf, leaf, leaf, [0, 0], [0, 0]])
        torch.testing.assert_close(found[:, :2], expected)
        assert not found[:, 2:].any()

    def test_alignment_is_that_of_the_factorised_similarities(self):
        """exp(-|y_i - y_j|) with Y Y^T = S, by an eigendecomposition."""
        features = torch.rand(6, 3, dtype=torch.float64)
        similarity = (-torch.cdist(features, features)).exp()
        values, vectors = torch.linalg.eigh(similarity)
        embedding = vectors * values.clamp(min=0).sqrt()
        expected = (-torch.cdist(embedding, embedding)).exp()
        torch.testing.assert_close(structural_alignment(features[None])[0], expected, atol=1e-6, rtol=0)

    def test_graph_alignment_by_hand_and_padding(self):
        torch.manual_seed(0)
        layer = GraphAlignment(hidden_size=4).eval()
        text, visual = torch.randn(1, 3, 4), torch.randn(1, 2, 4)
        masks = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
        graph = text_graph(torch.tensor([[0, 2]]), torch.ones(1, 3))
        found = layer(text, masks[0], visual, masks[1], graph)
        words, regions = layer.text_projection(text[0]), layer.visual_projection(visual[0])
        scores = layer.query(regions) @ layer.key(words).T / 8**0.5
        semantic = (scores.softmax(dim=-1) @ layer.value(words)).sigmoid()
        structural = words.mean(dim=0).expand(2, -1)  # in this triangle all tokens are alike
        expected = layer.output(torch.cat([semantic, structural], dim=-1)).sum(dim=0)
        torch.testing.assert_close(found[0], expected)
        assert not layer(text, masks[0], visual, ~masks[1], graph).any()  # no visual node gives zeros


FUSION = ["visualbert", "mega", "hvpnet", "mkgformer", "moreformer", "hvformer", "tmr"]


@pytest.mark.parametrize("name", FUSION)
def test_what_it_sees_matters(name, make_baseline, posts, inputs_of):
    model = make_baseline(name)
    inputs = inputs_of(model, posts())
    seen = "pixel_values" if "pixels" in BASELINES[name].inputs else "object_features"
    changed = inputs[seen].clone()
    changed[0, -1] = changed[0, -1].flip(-1) + 1  # the fourth object of the first post: of its pairs the second
    with torch.no_grad():
        before, after = model(**inputs).logits, model(**{**inputs, seen: changed}).logits
    differs = (before - after).abs().amax(dim=-1) > 1e-5
    assert differs.tolist() == [False, True, False, False, False, False]


class TestVisualBert:
    def test_without_regions_it_is_the_text_encoder(self, make_baseline, make_encoder, posts, inputs_of):
        """A masked region is not read, so the markers' states are those of the BERT whose weights it has."""
        model, encoder = make_baseline("visualbert"), make_encoder()
        model.use_text_encoder(encoder)
        inputs = inputs_of(model, posts()[1:2])  # no image
        names = ("input_ids", "attention_mask", "token_type_ids")
        with torch.no_grad():
            states = encoder(**{name: inputs[name] for name in names}).last_hidden_state
            found = model.pair_features(inputs)
        expected = states[0, inputs["entity_tokens"][0, :, 0]].flatten()
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)
        for kind in ("token_type", "position"):  # the visual segment starts as the textual one
            weight = getattr(model.text_encoder.embeddings, f"visual_{kind}_embeddings").weight
            assert torch.equal(weight, getattr(encoder.embeddings, f"{kind}_embeddings").weight)


class TestHVPNeT:
    def test_each_region_in_use_is_encoded_once(self, make_baseline, posts, inputs_of, monkeypatch):
        """Three pairs share the first image; of its four objects the second pair alone uses the last."""
        model = make_baseline("hvpnet")
        seen = []
        encode = model.pyramid.forward
        monkeypatch.setattr(model.pyramid, "forward", lambda pixels: seen.append(pixels) or encode(pixels))
        inputs = inputs_of(model, posts())
        pyramids, of_pair, present = model.region_pyramids(inputs)
        assert [len(pixels) for pixels in seen] == [5 + 1 + 3] and len(pyramids) == 10
        assert present.sum(dim=1).tolist() == [4, 3, 4, 0, 1, 3]
        assert of_pair[:2].tolist() == [[1, 2, 3, 4, 0], [1, 5, 2, 0, 0]]
        torch.testing.assert_close(pyramids[of_pair[4, 0]], encode(inputs["pixel_values"][2, :1])[0])
        assert not pyramids[0].any()

    def test_the_resnet_stays_frozen_and_reads_pixels(self, make_baseline, posts, inputs_of):
        model = make_baseline("hvpnet").train()
        before = {key: value.clone() for key, value in model.pyramid.state_dict().items()}
        inputs = inputs_of(model, posts())
        model(**inputs).loss.backward()
        assert all(torch.equal(value, before[key]) for key, value in model.pyramid.state_dict().items())
        assert model.training and not model.pyramid.training
        del inputs["pixel_values"]
        with pytest.raises(ValueError, match="pixel_values"):
            model(**inputs)

    def test_the_pyramid_is_normalised_over_the_regions(self, make_baseline):
        """In training to mean 0 and variance 1 a feature; what is no region stays zero and takes no part."""
        found = make_baseline("hvpnet").train().normalised(torch.cat([torch.zeros(1, 4, 960), torch.rand(6, 4, 960)]))
        assert not found[0].any()
        torch.testing.assert_close(found[1:].mean(dim=(0, 1)), torch.zeros(960), atol=1e-5, rtol=0)
        assert (found[1:].var(dim=(0, 1), correction=0) - 1).abs().max() < 1e-2
