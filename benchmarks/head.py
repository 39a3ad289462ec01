"""What does V-HAN cost beside the matrix products it cannot do without, and beside torch_geometric? Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.head --output outputs/head

Forward and backward of one layer over P pairs with N nodes and 5 hyperedges each, in one process and taking turns in
random order, so that whatever else the machine does falls on all alike:

    vhan, vhan_last, vhan_mean    a layer of V-HAN; the last of a stack (updates no hyperedge); that without variances
    vhan_pairwise                 a layer over all N (N - 1) / 2 pairs of nodes, the preset no_hypergraph
    products_of_...               the matrix products of that layer, bare: same shapes, forward and backward
    hypergraph_conv_attention     torch_geometric's HypergraphConv with use_attention=True (extra `bench`)
    hgnn, hypergraph_conv         this project's HypergraphConvolution, and HypergraphConv without attention, whose
                                  maths are the same (tests/test_baselines.py)
    head, products_of_head        Gaussian nodes, hyperedges, two layers, classifier and the three losses
    incidence                     of the head, the incidence matrices of all pairs

Ratios are taken within a round; medians and quartiles are over the rounds. `processor` is this process's own time,
which other processes stretch less than the clock on the wall. Then the head alone over growing P, and how much of its
time the operating system takes: glibc gives large blocks back and gets them anew, each page zeroed at its first touch.
MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 in the environment keeps them. Writes OUTPUT.json
and OUTPUT.md.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import CLOCKS, quartiles, ratio, spread, take_turns
from model_cards.run_metadata import write_atomically
from modeling_vmhan.graph_layers import HypergraphConvolution
from modeling_vmhan.hypergraph import build_incidence
from modeling_vmhan.layers import VariationalHypergraphAttention
from modeling_vmhan.variational import (
    GaussianNodes,
    entity_features,
    initial_hyperedges,
    kl_to_standard_normal,
    reconstruction_error,
)


__all__ = ["main", "markdown", "measure_head", "parse_arguments"]

RATIOS = (  # what is asked of the numbers
    ("vhan", "products_of_vhan"),
    ("vhan_last", "products_of_vhan_last"),
    ("vhan_mean", "products_of_vhan_mean"),
    ("vhan_pairwise", "products_of_vhan_pairwise"),
    ("head", "products_of_head"),
    ("hypergraph_conv_attention", "vhan"),
    ("hypergraph_conv_attention", "products_of_vhan"),
    ("hypergraph_conv_attention", "vhan_last"),
    ("hypergraph_conv_attention", "vhan_mean"),
    ("hypergraph_conv_attention + hypergraph_conv_attention", "vhan + vhan_last"),  # two layers, the default
    ("hypergraph_conv", "hgnn"),
    ("incidence", "head"),
)
PAPER = ("global", "intra", "inter")  # 5 hyperedges
NUM_RELATIONS = 23
REPEATS = 3  # of what is measured by the operating system's own clock, which ticks 100 times a second

Subject = Callable[[], None]


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    report = measure_head(arguments)
    write_atomically(arguments.output.with_suffix(".json"), json.dumps(report, indent=2) + "\n")
    write_atomically(arguments.output.with_suffix(".md"), markdown(report))
    print(markdown(report))


def measure_head(arguments: argparse.Namespace) -> dict[str, Any]:
    """`facts`, `layers` (milliseconds by clock and subject), `ratios` and `growth`, a row a P."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    asked = ("pairs", "nodes", "hidden_size", "heads", "rounds", "threads")
    facts = {name: getattr(arguments, name) for name in asked}
    facts |= {"torch": torch.__version__, "machine": platform.machine(), "cpus": os.cpu_count()}
    facts |= {"load_before": round(os.getloadavg()[0], 2)}
    layers: dict[str, dict[str, list[float]]] = {clock: {} for clock in CLOCKS}
    for make in (paper_subjects, pairwise_subjects, head_subjects):  # one after the other, to keep the memory small
        for clock, times in measure(make(arguments, arguments.pairs), arguments.rounds).items():
            layers[clock] |= times
    growth = [measure_growth(pairs, head_subjects(arguments, pairs), arguments.rounds) for pairs in arguments.growth]
    return {"facts": facts, "layers": summarise(layers), "growth": growth, "ratios": ratios(layers)}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1024, help="P")
    parser.add_argument("--nodes", type=int, default=8, help="N: head, tail, and the rest half text, half visual")
    parser.add_argument("--hidden_size", type=int, default=768, help="D")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--growth", type=int, nargs="*", default=[16, 64, 256, 1024, 4096], help="P of the head alone")
    parser.add_argument("--output", type=Path, default=Path("outputs/head"))
    return parser.parse_args(argv)


# ---------------------------------------------------------------- what is timed


def make_graph(arguments: argparse.Namespace, pairs: int, families: tuple[str, ...] = PAPER) -> dict[str, Tensor]:
    """Random Gaussians, all nodes present; the second half of the nodes is visual."""
    nodes, size = arguments.nodes, arguments.hidden_size
    is_visual = (torch.arange(nodes) >= nodes // 2).expand(pairs, nodes)
    node_mask = torch.ones(pairs, nodes, dtype=torch.bool)
    incidence = build_incidence(node_mask, is_visual, families=families)
    node_mean, node_variance = torch.randn(pairs, nodes, size), torch.rand(pairs, nodes, size)
    edge_mean, edge_variance = initial_hyperedges(node_mean, node_variance, incidence)
    graph = {"node_mean": node_mean, "node_variance": node_variance, "edge_mean": edge_mean}
    graph |= {"edge_variance": edge_variance, "incidence": incidence, "node_mask": node_mask, "is_visual": is_visual}
    return graph


def paper_subjects(arguments: argparse.Namespace, pairs: int) -> dict[str, Subject]:
    """Layers over the paper's five hyperedges."""
    graph, size, heads = make_graph(arguments, pairs), arguments.hidden_size, arguments.heads
    subjects = attention_subjects("vhan", graph, size, heads)
    subjects |= attention_subjects("vhan_last", graph, size, heads, update_hyperedges=False)
    subjects |= attention_subjects("vhan_mean", graph, size, heads, update_hyperedges=False, variational=False)
    subjects["hgnn"] = propagation(HypergraphConvolution(hidden_size=size), graph, False)
    return subjects | torch_geometric_subjects(graph, size, heads)


def pairwise_subjects(arguments: argparse.Namespace, pairs: int) -> dict[str, Subject]:
    graph = make_graph(arguments, pairs, ("pairwise",))
    return attention_subjects("vhan_pairwise", graph, arguments.hidden_size, arguments.heads)


def attention_subjects(
    name: str, graph: dict[str, Tensor], size: int, heads: int, **options: bool
) -> dict[str, Subject]:
    layer = VariationalHypergraphAttention(hidden_size=size, num_heads=heads, **options)
    products = bare_products(*layer_products(graph["incidence"], size, heads, **options), size)
    return {name: propagation(layer, graph, layer.variational), f"products_of_{name}": products}


def propagation(layer: nn.Module, graph: dict[str, Tensor], variational: bool) -> Subject:
    """Forward and backward of a layer, to its weights and its inputs."""
    names = ("node_mean", "node_variance", "edge_mean", "edge_variance") if variational else ("node_mean", "edge_mean")
    inputs = {name: graph[name].clone().requires_grad_() for name in names}

    def run() -> None:
        given = {name: inputs.get(name) for name in ("node_mean", "node_variance", "edge_mean", "edge_variance")}
        state = layer(**given, incidence=graph["incidence"])
        outputs = [tensor for tensor in state[:4] if tensor is not None and tensor.grad_fn is not None]
        torch.autograd.backward(outputs, [torch.ones_like(tensor) for tensor in outputs])
        forget([*layer.parameters(), *inputs.values()])

    return run


def layer_products(
    incidence: Tensor, size: int, heads: int, *, variational: bool = True, update_hyperedges: bool = True
) -> tuple[list[int], list[tuple[int, int, int, int]]]:
    """Rows of each D x D projection; (batch, rows, inner, columns) of each batched product."""
    pairs, nodes, edges = incidence.shape
    paths, batch, size = 2 if variational else 1, pairs * heads, size // heads
    rows = [edges, nodes] + [edges] * paths  # W_e and W_x; what nodes read
    batched = [(batch, edges, size, nodes)] + [(batch, nodes, edges, size)] * paths  # scores; hyperedges to nodes
    if update_hyperedges:
        rows += [nodes] * paths
        batched += [(batch, edges, nodes, size)] * paths  # nodes to hyperedges
    return [count * pairs for count in rows], batched


def bare_products(rows: list[int], batched: list[tuple[int, int, int, int]], size: int) -> Subject:
    """The products alone: y = x W^T and a b, then the two products of each gradient; equal shapes share their data."""
    of_rows = {count: (torch.randn(count, size), torch.randn(size, size)) for count in rows}
    of_batches = {(b, m, k, n): (torch.randn(b, m, k), torch.randn(b, k, n)) for b, m, k, n in batched}
    for matrices in (*of_rows.values(), *of_batches.values()):
        for matrix in matrices:
            matrix.requires_grad_()

    def run() -> None:
        for operation, inputs in (
            *((nn.functional.linear, of_rows[count]) for count in rows),
            *((torch.bmm, of_batches[shape]) for shape in batched),
        ):
            output = operation(*inputs)
            torch.autograd.grad(output, inputs, torch.ones_like(output))

    return run


def torch_geometric_subjects(graph: dict[str, Tensor], size: int, heads: int) -> dict[str, Subject]:
    """HypergraphConv over all pairs at once, as one graph of P N nodes and P E hyperedges; none if not installed."""
    try:
        from torch_geometric.nn import HypergraphConv
    except ImportError:
        return {}
    pair, node, edge = graph["incidence"].nonzero(as_tuple=True)
    _, nodes, edges = graph["incidence"].shape
    index = torch.stack([pair * nodes + node, pair * edges + edge])
    x = graph["node_mean"].flatten(0, 1).clone().requires_grad_()
    attributes = graph["edge_mean"].flatten(0, 1).clone().requires_grad_()

    def subject(layer: nn.Module, **options: Any) -> Subject:
        def run() -> None:
            output = layer(x, index, num_edges=len(attributes), **options)
            output.backward(torch.ones_like(output))
            forget([*layer.parameters(), x, attributes])

        return run

    attention = HypergraphConv(size, size // heads, use_attention=True, heads=heads)
    return {
        "hypergraph_conv_attention": subject(attention, hyperedge_attr=attributes),
        "hypergraph_conv": subject(HypergraphConv(size, size, bias=False)),
    }


def head_subjects(arguments: argparse.Namespace, pairs: int) -> dict[str, Subject]:
    """All that V-HAN adds to a text encoder, from node features to the loss; and its products."""
    size, heads = arguments.hidden_size, arguments.heads
    graph = make_graph(arguments, pairs)
    gaussians = GaussianNodes(input_size=size, hidden_size=size, variance_eps=1e-6)
    layers = nn.ModuleList(
        VariationalHypergraphAttention(hidden_size=size, num_heads=heads, update_hyperedges=not last)
        for last in (False, True)
    )
    classifier = nn.Linear(4 * size, NUM_RELATIONS)
    features, labels = graph["node_mean"].clone().requires_grad_(), torch.zeros(pairs, dtype=torch.long)
    node_mask, is_visual = graph["node_mask"], graph["is_visual"]

    def run() -> None:
        incidence = build_incidence(node_mask, is_visual)
        mean, variance = gaussians(features)
        state = (mean, variance, *initial_hyperedges(mean, variance, incidence))
        for layer in layers:
            state = layer(*state, incidence)[:4]
        logits = classifier(entity_features(state[0][:, :2], state[1][:, :2]))
        loss = nn.functional.cross_entropy(logits, labels) + kl_to_standard_normal(state[0], state[1], node_mask)
        (loss + reconstruction_error(state[0], state[1], mean, variance, node_mask)).backward()
        forget([*gaussians.parameters(), *layers.parameters(), *classifier.parameters(), features])

    inner, last = (
        layer_products(graph["incidence"], size, heads, update_hyperedges=update) for update in (True, False)
    )
    rows = [pairs * arguments.nodes] * 2 + inner[0] + last[0]  # the Gaussians'; the classifier's is too small to count
    edges = graph["incidence"].shape[2]
    start = [(pairs, edges, arguments.nodes, size)] * 2  # of the hyperedges
    products = bare_products(rows, start + inner[1] + last[1], size)
    return {"head": run, "products_of_head": products, "incidence": partial(build_incidence, node_mask, is_visual)}


def forget(tensors: list[Tensor]) -> None:
    """Drop the gradients, as an optimizer's zero_grad does."""
    for tensor in tensors:
        tensor.grad = None


# ---------------------------------------------------------------- timing and reporting


def measure(subjects: dict[str, Subject], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each subject in each round, by clock; the subjects take turns in random order."""
    times = take_turns({name: [subject] for name, subject in subjects.items()}, rounds)
    return {clock: {name: [1000 * s for s in of[name]] for name in subjects} for clock, of in times.items()}


def summarise(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    return {clock: {name: spread(values) for name, values in of.items()} for clock, of in times.items()}


def total(times: dict[str, list[float]], names: str) -> list[float]:
    """Of subjects joined by " + ", the sum of their times in each round."""
    return [sum(of_round) for of_round in zip(*(times[name] for name in names.split(" + ")))]


def ratios(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Those of `RATIOS` whose subjects were timed."""
    return {
        clock: {
            f"{names} / {bases}": ratio(total(of, names), total(of, bases))
            for names, bases in RATIOS
            if {*names.split(" + "), *bases.split(" + ")} <= of.keys()
        }
        for clock, of in times.items()
    }


def measure_growth(pairs: int, subjects: dict[str, Subject], rounds: int) -> dict[str, Any]:
    """The head over P pairs: microseconds a pair, its ratio to its products, the system's share of its time."""
    times = measure({name: subjects[name] for name in ("head", "products_of_head")}, rounds)["processor"]
    return {
        "pairs": pairs,
        "microseconds_a_pair": spread([1000 * value / pairs for value in times["head"]]),
        "head / products": ratio(times["head"], times["products_of_head"]),
        "system_share": {name: system_share(subjects[name]) for name in ("head", "products_of_head")},
    }


def system_share(run: Subject) -> float:
    """Of the processor's time of `REPEATS` runs, the part that the operating system took."""
    before = os.times()
    for _ in range(REPEATS):
        run()
    after = os.times()
    system, user = after.system - before.system, after.user - before.user
    return system / max(system + user, 1e-9)


def markdown(report: dict[str, Any]) -> str:
    facts = report["facts"]
    lines = ["# V-HAN's head, forward and backward", ""]
    lines += [", ".join(f"{name} {value}" for name, value in facts.items()) + ".", ""]
    lines += ["| subject | processor ms, median | quartiles | wall ms, median |", "| --- | ---: | ---: | ---: |"]
    for name, row in report["layers"]["processor"].items():
        wall = report["layers"]["wall"][name]["median"]
        lines.append(f"| {name} | {row['median']:.4g} | {quartiles(row, '.4g')} | {wall:.4g} |")
    lines += ["", "| ratio | processor, median | quartiles | wall, median |", "| --- | ---: | ---: | ---: |"]
    for name, row in report["ratios"]["processor"].items():
        wall = report["ratios"]["wall"][name]["median"]
        lines.append(f"| {name} | {row['median']:.3g} | {quartiles(row, '.3g')} | {wall:.3g} |")
    if report["growth"]:
        lines += [
            "",
            "| P | head, processor us a pair | quartiles | head / its products | quartiles | system's share | of",
        ]
        lines[-1] += " its products |"
        lines += ["| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in report["growth"]:
        cost, against = row["microseconds_a_pair"], row["head / products"]
        line = f"| {row['pairs']} | {cost['median']:.0f} | {quartiles(cost, '.0f')} "
        line += f"| {against['median']:.2f} | {quartiles(against, '.2f')} "
        lines.append(line + "".join(f"| {100 * share:.0f} % " for share in row["system_share"].values()) + "|")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
