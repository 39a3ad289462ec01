"""The types of a relation's arguments, which MNRE's names tell: a person and a place of "/per/loc/place_of_birth"."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .direction import INVERSE
from .values import shown
from .words import close_matches


__all__ = ["argument_types", "constraints_of", "read_constraints", "read_relations", "read_types", "types_in"]

TYPED = re.compile(r"/([^/\s]+)/([^/\s]+)/[^/]+")


def argument_types(label: str) -> tuple[str, str] | None:
    """Types of head and tail by a label's name; of an inverse one in the order of its mentions. None: it has none.

    Example:
        >>> argument_types("/per/org/member_of (inverse)")
        ('org', 'per')
    """
    is_inverse = label.endswith(INVERSE)
    found = TYPED.fullmatch(label.removesuffix(INVERSE))
    return None if found is None else found.groups()[:: -1 if is_inverse else 1]


def types_in(labels: Iterable[str]) -> list[str]:
    """The types in the labels' names, sorted."""
    return sorted({of for label in labels for of in argument_types(label) or ()})


def constraints_of(labels: Iterable[str], given: Mapping[str, Any] | None = None) -> dict[str, set[tuple[str, str]]]:
    """Of each label that is constrained the pairs of types that head and tail may have, in the order of its mentions.

    `given` is {relation: [(head type, tail type), ...]}, which counts for the relation's inverse label, too; None
    reads the labels' names.
    """
    allowed = {}
    for label in labels:
        if given is None:
            of_label = argument_types(label)
            types = None if of_label is None else {of_label}
        else:
            types = given.get(label, given.get(label.removesuffix(INVERSE)))
            turned = label.endswith(INVERSE) and label not in given
            types = None if types is None else {tuple(pair)[:: -1 if turned else 1] for pair in types}
        if types is not None:
            allowed[label] = types
    return allowed


def read_types(types: Any) -> list[str]:
    """A list of different names of types; else a ValueError."""
    names = list(types) if isinstance(types, (list, tuple)) else [None]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"mention_types must be a list of different strings, received {shown(types)}.")
    return names


def read_relations(name: str, relations: Any, labels: list[str]) -> list[str]:
    """A list of relations, each one of the labels; else a ValueError."""
    if isinstance(relations, str) or not isinstance(relations, Iterable):
        raise ValueError(f"{name} must be a list of relations, received {shown(relations)}.")
    for relation in relations:
        if relation not in labels:
            near = close_matches(str(relation), labels)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            rule = f"{name} must hold relations of {labels}"
            raise ValueError(f"{rule}, received {shown(relations)}, where {shown(relation)} is none.{guess}")
    return list(relations)


def read_constraints(given: Any, labels: list[str]) -> dict[str, list[list[str]]] | None:
    """Type constraints as JSON has them, {relation: [[head type, tail type], ...]}; else a ValueError."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        rule = "type_constraints must be a dict {relation: [(head type, tail type), ...]}"
        raise ValueError(f"{rule}, received {shown(given)}.")
    read_relations("type_constraints", given, labels)
    for relation, pairs in given.items():
        is_list = isinstance(pairs, (list, tuple, set))
        if not is_list or not all(len(pair) == 2 and all(isinstance(of, str) for of in pair) for pair in pairs):
            rule = f"type_constraints[{relation!r}] must be a list of pairs of names of types"
            raise ValueError(f"{rule}, [(head type, tail type), ...], received {shown(pairs)}.")
    return {relation: [list(pair) for pair in pairs] for relation, pairs in given.items()}
