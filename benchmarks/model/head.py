"""What does V-HAN cost beside the matrix products it cannot do without, and beside torch_geometric? Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.model.head --output_dir outputs/head

Forward and backward over P pairs with N nodes and 5 hyperedges each, in one process and taking turns in random order:

    vhan, vhan_last    a layer of V-HAN; the last of a stack, which updates no hyperedge
    head               Gaussian nodes, hyperedges, two layers, classifier and the three losses
    ..._products       the matrix products of these, bare: same shapes, forward and backward
    hypergraph_conv    torch_geometric's HypergraphConv with use_attention=True (extra `bench`)
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness.command import new_parser
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import take_turns
from modeling_vmhan import variational as vi
from modeling_vmhan.hypergraph import build_incidence
from modeling_vmhan.layers import VariationalHypergraphAttention
from modeling_vmhan.variational import initial_hyperedges


__all__ = ["main"]

NUM_RELATIONS = 23
STATE = ("node_mean", "node_variance", "edge_mean", "edge_variance")

Subject = Callable[[], None]
Products = tuple[list[int], list[tuple[int, int, int, int]]]


def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1024], help="P; a table each")
    parser.add_argument("--nodes", type=int, default=8, help="N: head, tail, and the rest half text, half visual")
    parser.add_argument("--hidden_size", type=int, default=768, help="D")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/head"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    tables = {}
    for pairs in arguments.pairs:
        subjects = make_subjects(pairs, arguments.nodes, arguments.hidden_size, arguments.heads)
        times = take_turns({name: [run] for name, (run, _) in subjects.items()}, arguments.rounds)
        tables[f"head/{pairs} pairs"] = Table({name: Row(times[name], to) for name, (_, to) in subjects.items()})
    print(write_report(arguments.output_dir, __spec__.name, argv, {}, tables))


def make_subjects(pairs: int, nodes: int, size: int, heads: int) -> dict[str, tuple[Subject, str]]:
    """Return what is timed, by name, with the name of what it is compared with."""
    is_visual = (torch.arange(nodes) >= nodes // 2).expand(pairs, nodes)
    node_mask = torch.ones(pairs, nodes, dtype=torch.bool)
    graph = {"incidence": build_incidence(node_mask, is_visual), "node_mask": node_mask, "is_visual": is_visual}
    graph |= {"node_mean": torch.randn(pairs, nodes, size), "node_variance": torch.rand(pairs, nodes, size)}
    edges = initial_hyperedges(graph["node_mean"], graph["node_variance"], graph["incidence"])
    graph |= dict(zip(STATE[2:], edges, strict=True))
    subjects: dict[str, tuple[Subject, str]] = {}
    for name, update in {"vhan": True, "vhan_last": False}.items():
        layer = VariationalHypergraphAttention(hidden_size=size, num_heads=heads, update_hyperedges=update)
        products = layer_products(graph["incidence"], size, heads, update)
        subjects[name] = propagation(layer, graph), f"{name}_products"
        subjects[f"{name}_products"] = bare_products(*products, size), f"{name}_products"
    head, products = whole_head(graph, size, heads)
    subjects |= {"head": (head, "head_products"), "head_products": (bare_products(*products, size), "head_products")}
    return subjects | torch_geometric_subjects(graph, size, heads)


def propagation(layer: nn.Module, graph: dict[str, Tensor]) -> Subject:
    """Run a layer forward and backward, to its weights and its inputs."""
    inputs = {name: graph[name].clone().requires_grad_() for name in STATE}

    def run() -> None:
        outputs = layer(**inputs, incidence=graph["incidence"])[:4]
        outputs = [tensor for tensor in outputs if tensor.grad_fn is not None]
        torch.autograd.backward(outputs, [torch.ones_like(tensor) for tensor in outputs])
        forget(*layer.parameters(), *inputs.values())

    return run


def layer_products(incidence: Tensor, size: int, heads: int, update_hyperedges: bool) -> Products:
    """Return the rows of each D x D projection, and (batch, rows, inner, columns) of each batched product."""
    pairs, nodes, edges = incidence.shape
    batch, size = pairs * heads, size // heads
    rows = [edges, nodes, edges, edges]  # W_e and W_x; what nodes read, of means and of variances
    batched = [(batch, edges, size, nodes)] + [(batch, nodes, edges, size)] * 2  # scores; hyperedges to nodes
    if update_hyperedges:
        rows += [nodes] * 2
        batched += [(batch, edges, nodes, size)] * 2  # nodes to hyperedges
    return [count * pairs for count in rows], batched


def bare_products(rows: list[int], batched: list[tuple[int, int, int, int]], size: int) -> Subject:
    """Compute the products alone: y = x W^T and a b, then the two of each gradient. Equal shapes share data."""
    of_rows = {count: (torch.randn(count, size), torch.randn(size, size)) for count in rows}
    of_batches = {(b, m, k, n): (torch.randn(b, m, k), torch.randn(b, k, n)) for b, m, k, n in batched}
    products = [(nn.functional.linear, of_rows[count]) for count in rows]
    products += [(torch.bmm, of_batches[shape]) for shape in batched]
    for _, inputs in products:
        for matrix in inputs:
            matrix.requires_grad_()

    def run() -> None:
        for operation, inputs in products:
            output = operation(*inputs)
            torch.autograd.grad(output, inputs, torch.ones_like(output))

    return run


def whole_head(graph: dict[str, Tensor], size: int, heads: int) -> tuple[Subject, Products]:
    """Run all that V-HAN adds to a text encoder, from node features to the loss; returns its products, too."""
    pairs, nodes, edges = graph["incidence"].shape
    node_mask = graph["node_mask"]
    gaussians = vi.GaussianNodes(input_size=size, hidden_size=size, variance_eps=1e-6)
    layers = nn.ModuleList(
        VariationalHypergraphAttention(hidden_size=size, num_heads=heads, update_hyperedges=update)
        for update in (True, False)
    )
    classifier = nn.Linear(4 * size, NUM_RELATIONS)
    features, labels = graph["node_mean"].clone().requires_grad_(), torch.zeros(pairs, dtype=torch.long)

    def run() -> None:
        incidence = build_incidence(node_mask, graph["is_visual"])
        mean, variance = gaussians(features)
        state = (mean, variance, *initial_hyperedges(mean, variance, incidence))
        for layer in layers:
            state = layer(*state, incidence)[:4]
        logits = classifier(vi.entity_features(state[0][:, :2], state[1][:, :2]))
        loss = nn.functional.cross_entropy(logits, labels) + vi.kl_to_standard_normal(state[0], state[1], node_mask)
        (loss + vi.reconstruction_error(state[0], state[1], mean, variance, node_mask)).backward()
        forget(*gaussians.parameters(), *layers.parameters(), *classifier.parameters(), features)

    rows, batched = [pairs * nodes] * 2, [(pairs, edges, nodes, size)] * 2  # the Gaussians', the hyperedges'
    for update in (True, False):  # the classifier's product is too small to count
        of_layer = layer_products(graph["incidence"], size, heads, update)
        rows, batched = rows + of_layer[0], batched + of_layer[1]
    return run, (rows, batched)


def torch_geometric_subjects(graph: dict[str, Tensor], size: int, heads: int) -> dict[str, tuple[Subject, str]]:
    """Run HypergraphConv over all pairs as one graph of P N nodes and P E hyperedges, where it is installed."""
    try:
        from torch_geometric.nn import HypergraphConv
    except ImportError:
        return {}
    pair, node, edge = graph["incidence"].nonzero(as_tuple=True)
    _, nodes, edges = graph["incidence"].shape
    index = torch.stack([pair * nodes + node, pair * edges + edge])
    x, attributes = (graph[name].flatten(0, 1).clone().requires_grad_() for name in ("node_mean", "edge_mean"))

    layer = HypergraphConv(size, size // heads, use_attention=True, heads=heads)

    def run() -> None:
        output = layer(x, index, hyperedge_attr=attributes, num_edges=len(attributes))
        output.backward(torch.ones_like(output))
        forget(*layer.parameters(), x, attributes)

    return {"hypergraph_conv": (run, "vhan")}


def forget(*tensors: Tensor) -> None:
    """Drop the gradients, as an optimizer's zero_grad does."""
    for tensor in tensors:
        tensor.grad = None


if __name__ == "__main__":
    main()
