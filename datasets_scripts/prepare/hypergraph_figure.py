"""A picture of one post's hypergraphs: a line is a node, a column a hyperedge, with dots on the nodes it joins."""

from pathlib import Path
from typing import Any

from datasets_scripts.figure_fonts import figure_fonts
from datasets_scripts.nodes.pairs import shorten
from model_cards.files import whole_file
from modeling_vmhan.posts import image_phrases_of


__all__ = ["draw_hypergraph"]

SCOPES = {"pair_hyperedges": "one hypergraph a pair", "post_hyperedges": "one hypergraph a post"}
COLOURS = {
    "global": "#444444", "textual": "#1f77b4", "visual": "#2ca02c", "head-visual": "#d62728", "tail-visual": "#ff7f0e",
    "pair": "#9467bd", "mention": "#8c564b", "mention-visual": "#e377c2",
}  # fmt: skip


@figure_fonts()
def draw_hypergraph(path: Path, post: dict[str, Any]) -> None:
    """Draw the hypergraphs of both scopes of a row of `schema.post_features`."""
    from matplotlib.figure import Figure  # not pyplot, which has a state and wants a screen

    hypergraph = post["hypergraph"]
    names = [_name(node, post) for node in hypergraph["nodes"]]
    counts = [len(hypergraph[scope]) for scope in SCOPES]
    width, height = 4 + 0.3 * sum(counts), 2.4 + 0.25 * len(names)
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(SCOPES), sharey=True, width_ratios=[max(count, 1) for count in counts])
    for axes, (scope, title) in zip(panels, SCOPES.items()):
        axes.hlines(range(len(names)), -0.5, len(hypergraph[scope]) - 0.5, color="#dddddd", linewidth=0.8)
        for column, joined in enumerate(hypergraph[scope]):
            lines, colour = joined["nodes"], COLOURS[joined["family"]]
            axes.plot([column] * 2, [min(lines), max(lines)], color=colour)
            axes.scatter([column] * len(lines), lines, color=colour, s=22, zorder=2)
        labels = [
            joined["family"] + ("" if joined["pair"] is None else f", pair {joined['pair']}")
            for joined in hypergraph[scope]
        ]
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.spines[:].set_visible(False)
        axes.tick_params(left=False)
    panels[0].set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)  # no mathematics
    panels[0].invert_yaxis()
    with whole_file(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def _name(node: dict[str, Any], post: dict[str, Any]) -> str:
    """The kind of a node, and its words, or the label of its object."""
    kind, index = node["kind"].replace("_", " "), node["index"]
    if node["span"] is not None:
        return f"{kind}: {shorten(' '.join(post['tokens'][slice(*node['span'])]), 30)}"
    if kind == "pair" or index is None:
        return kind if index is None else f"pair {index}"
    if kind == "image phrase":
        return f"{kind}: {shorten(image_phrases_of(post)[index], 30)}"
    return f"{kind} {index}: {shorten(post['object_labels'][index] or 'no label', 30)}"
