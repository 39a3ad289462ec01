"""A post's hypergraph as a picture, and in other libraries as docs/your-own-posts.md hands it over."""

import re

import pytest
import torch
from paths import ROOT
from PIL import Image
from prepare_fakes import make_fakes, write_posts

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from datasets_scripts.prepare.hypergraph_figure import draw_hypergraph
from datasets_scripts.schema import new_pair, new_post, with_hypergraph


def make_post(num_pairs=1):
    pairs = [new_pair([0, 1], [2, 3], text_phrases=[[1, 2]]), *[new_pair([2, 3], [], tail_object=1)] * (num_pairs - 1)]
    nodes = {
        "image": "a.png",
        "boxes": [[0, 0, 1, 1]] * 3,
        "object_labels": ["a $ sign", "", "dog"],
        "caption": "snow",
    }
    return with_hypergraph(new_post("a", "Ann met Bob".split(), "a.png", pairs, **nodes))


def test_a_picture_grows_with_nodes_and_hyperedges(tmp_path):
    sizes = []
    for count in (1, 3):
        draw_hypergraph(tmp_path / "a.png", make_post(count))
        with Image.open(tmp_path / "a.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
            sizes.append(picture.size)
    assert sizes[0][0] + 300 < sizes[1][0] and sizes[0][1] < sizes[1][1]


def test_a_prepared_folder_has_the_picture_though_no_post_of_its_first_file_stayed(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[9, 0])  # there is no image 9
    given = {"source": "jsonl", "data_dir": str(tmp_path / "mine"), "output_dir": str(tmp_path / "out")}
    prepare(PrepareArguments(**given, on_bad_image="skip_post", shard_size=1), make_tools=make_fakes)
    assert len(list((tmp_path / "out").rglob("hypergraph.png"))) == 1


def test_the_helpers_of_the_page_agree_with_the_incidence_matrix():
    geometric = pytest.importorskip("torch_geometric.nn")
    page = (ROOT / "docs" / "your-own-posts.md").read_text(encoding="utf-8")
    code, names, post = (
        re.search(r"```python\n(def hyperedges.*?)print", page, flags=re.DOTALL).group(1),
        {},
        make_post(2),
    )
    exec(code, names)
    for scope in ("pair_hyperedges", "post_hyperedges"):
        edges, index = names["hyperedges"](post, scope), names["hyperedge_index"](post, scope)
        matrix = torch.zeros(len(post["hypergraph"]["nodes"]), len(edges))  # (N, E)
        for number, members in enumerate(edges):
            matrix[members, number] = 1
        layer, features = geometric.HypergraphConv(4, 3, bias=False), torch.randn(len(matrix), 4)
        gathered = (matrix / matrix.sum(dim=0)).T @ layer.lin(features)  # (E, 3)
        expected = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1) @ gathered  # (N, 3)
        torch.testing.assert_close(layer(features, index), expected)


def test_the_helper_of_the_page_makes_deephypergraphs_hypergraph():
    pytest.importorskip("dhg")
    page, names, post = (ROOT / "docs" / "your-own-posts.md").read_text(encoding="utf-8"), {}, make_post()
    exec(re.search(r"```python\n(def hyperedges.*?)print", page, flags=re.DOTALL).group(1), names)
    made = names["dhg_hypergraph"](post)
    assert made.num_v == len(post["hypergraph"]["nodes"])
    assert {frozenset(nodes) for nodes in made.e[0]} == {frozenset(nodes) for nodes in names["hyperedges"](post)}
