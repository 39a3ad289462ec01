"""VM-HAN: relations out of posts, from raw data to tables and facts. `vmhan --help` lists the commands."""

import importlib


__all__ = ["VMHANConfig", "VMHANForRelationClassification", "VMHANProcessor", "train"]


def __getattr__(name: str):
    """The model's classes, and `train`, imported (with torch) when they are first asked for."""
    if name in __all__:
        place = "vmhan.training.from_python" if name == "train" else "modeling_vmhan"
        return getattr(importlib.import_module(place), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
