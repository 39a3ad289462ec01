"""VM-HAN: relations out of posts, from raw data to tables and facts. `vmhan --help` lists the commands."""

import importlib


__all__ = ["VMHANConfig", "VMHANForRelationClassification", "VMHANProcessor"]


def __getattr__(name: str):
    """The model's classes, imported (with torch) when they are first asked for."""
    if name in __all__:
        return getattr(importlib.import_module("modeling_vmhan"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
