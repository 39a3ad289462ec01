"""The data sets that are built here, by the name of their configuration: the one list of them."""

from importlib import import_module
from typing import Any, NamedTuple


__all__ = ["BUILDERS", "Source"]


class Source(NamedTuple):
    """Where the builder of a data set is, and what people call the data set."""

    module: str
    class_name: str
    title: str

    def builder_class(self) -> Any:
        """The builder; its module is imported only now."""
        return getattr(import_module(self.module), self.class_name)


BUILDERS = {
    "mnre": Source("datasets_scripts.builders.mnre", "MNRE", "MNRE-2"),
    "mnre_v1": Source("datasets_scripts.builders.mnre", "MNRE", "MNRE-1"),
    "mnre_order_blind": Source("datasets_scripts.builders.mnre", "MNRE", "MNRE-2 in text order"),
    "mnre_v1_order_blind": Source("datasets_scripts.builders.mnre", "MNRE", "MNRE-1 in text order"),
    "mnre_published_objects": Source(
        "datasets_scripts.builders.mnre", "MNRE", "MNRE-2 with the published, leaky objects"
    ),
    "more": Source("datasets_scripts.builders.more", "MORE", "MORE"),
    "postcards": Source("datasets_scripts.builders.postcards", "Postcards", "Postcards"),
    "jsonl": Source("datasets_scripts.builders.jsonl", "Posts", "Posts"),
}
