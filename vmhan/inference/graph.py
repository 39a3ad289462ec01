"""Facts as a graph: the mentions of one name are one node, and what several posts say is one edge; and its files."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

import networkx

from modeling_vmhan.addresses import is_url
from modeling_vmhan.argument_types import argument_types
from vmhan.inference.answers import Rows, write_csv


__all__ = ["ENTITY", "OBJECT", "fact_graph", "write_graphml", "write_jsonld", "write_nodes", "write_relationships"]

ENTITY, OBJECT = "entity", "object"  # types of nodes whose relations' names tell none
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

IRIS = "urn:vmhan:"
CONTEXT = {"@vocab": IRIS, "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#"}
CONTEXT |= {"name": "http://www.w3.org/2000/01/rdf-schema#label"}
CONTEXT |= {role: {"@id": f"rdf:{role}", "@type": "@id"} for role in ("subject", "predicate", "object")}


def fact_graph(
    triples: Rows, *, link: Callable[[str, str], str | None] | None = None, symmetric: Collection[str] = ()
) -> networkx.MultiDiGraph:
    """The graph of what `answers.triples_of` gives, held in memory.

    A node is all mentions of one type and one name; names are compared in Unicode's NFKC, without case, and with one
    blank for white space. The type is what the relation's name tells (`/per/org/member_of`), else ENTITY, or OBJECT.
    `link` is the hook for entity linking: it gets a name and a type, and returns an id (an IRI, say), or None where
    it knows none. Nodes of one id are one; without an id it is TYPE:NAME. A node has its most frequent `name`, its
    `type`, and `support`, the number of posts that say something of it.

    An edge is a `relation`, from head to tail; of `symmetric` relations from the smaller id. It has the ids of its
    `posts`, `support`, which is their number, and `score` and `mean_score`, the best and the mean of their
    confidences; of a post the best counts. Characters that XML does not have are U+FFFD.
    """
    ids, types, names, facts = {}, {}, defaultdict(Counter), defaultdict(dict)
    for triple in triples:
        relation, ends = _one_line(triple["relation"]), []
        told = argument_types(relation)
        for i, role in enumerate(("head", "tail")):
            name, is_object = _one_line(triple[role]), role == "tail" and triple["tail_is_object"]
            key = (OBJECT if is_object else told[i] if told else ENTITY, _normalised(name))
            if key not in ids:
                ids[key] = (link(name, key[0]) if link else None) or ":".join(key)
            ends.append(ids[key])
            types.setdefault(ids[key], key[0])
            names[ids[key]][name] += 1
        confidences, post = facts[*(sorted(ends) if relation in symmetric else ends), relation], triple["source"]
        confidences[post] = max(confidences.get(post, 0.0), float(triple["confidence"]))
    graph = networkx.MultiDiGraph()
    for node, forms in names.items():
        graph.add_node(node, name=forms.most_common(1)[0][0], type=types[node])
    for i, ((head, tail, relation), of_posts) in enumerate(facts.items()):
        worth = {"score": max(of_posts.values()), "mean_score": fmean(of_posts.values()), "support": len(of_posts)}
        graph.add_edge(head, tail, key=f"e{i}", relation=relation, **worth, posts=[*map(_one_line, of_posts)])
    for node, attributes in graph.nodes(data=True):
        edges = [*graph.out_edges(node, data="posts"), *graph.in_edges(node, data="posts")]
        attributes["support"] = len({post for _, _, posts in edges for post in posts})
    return graph


def write_graphml(graph: networkx.MultiDiGraph, target: Path) -> None:
    """GraphML, which has no lists: the posts of an edge are one string of JSON."""
    graph = graph.copy()
    for _, _, edge in graph.edges(data=True):
        edge["posts"] = json.dumps(edge["posts"], ensure_ascii=False)
    with target.open("wb") as file:
        networkx.write_graphml_xml(graph, file, named_key_ids=True)  # an edge's key is its id


def write_jsonld(graph: networkx.MultiDiGraph, target: Path) -> None:
    """JSON-LD: each fact as a triple between two IRIs, and as an rdf:Statement with its worth and posts."""
    items = {node: {"@id": _iri(node), "@type": of["type"], **of} for node, of in graph.nodes(data=True)}
    statements = []
    for head, tail, edge in graph.edges(data=True):
        predicate = f"{IRIS}relation:{quote(edge['relation'])}"
        items[head].setdefault(predicate, []).append({"@id": _iri(tail)})
        parts = {"subject": _iri(head), "predicate": predicate, "object": _iri(tail)}
        statements.append({"@type": "rdf:Statement", **parts, **edge})
    content = {"@context": CONTEXT, "@graph": [*items.values(), *statements]}
    target.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_nodes(graph: networkx.MultiDiGraph, target: Path) -> None:
    """The file of nodes for `neo4j-admin database import`."""
    rows = (
        {"id:ID": node, "name": of["name"], ":LABEL": of["type"], "support:int": of["support"]}
        for node, of in graph.nodes(data=True)
    )
    write_csv(rows, target, ("id:ID", "name", ":LABEL", "support:int"))


def write_relationships(graph: networkx.MultiDiGraph, target: Path) -> None:
    """The file of relationships for `neo4j-admin database import`, whose arrays have ";" between their values."""
    names = (":START_ID", ":END_ID", ":TYPE", "score:double", "mean_score:double", "support:int", "posts:string[]")
    rows = []
    for head, tail, of in graph.edges(data=True):
        posts = ";".join(post.replace(";", "%3B") for post in of["posts"])
        worth = (of["score"], of["mean_score"], of["support"])
        rows.append(dict(zip(names, (head, tail, of["relation"], *worth, posts))))
    write_csv(rows, target, names)


def _one_line(text: str) -> str:
    return NOT_IN_XML.sub("\ufffd", " ".join(text.split()))


def _normalised(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _iri(node: str) -> str:
    return node if is_url(node) else IRIS + quote(node, safe=":/")
