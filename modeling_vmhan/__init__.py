"""vmhan: Variational Multi-Modal Hypergraph Attention Network (IJCAI 2025) for multi-modal relation extraction."""

import importlib


__all__ = [
    "PRESETS",
    "MultimodalRelationClassificationPipeline",
    "VMHANCollator",
    "VMHANConfig",
    "VMHANForRelationClassification",
    "VMHANModel",
    "VMHANModelOutput",
    "VMHANProcessor",
    "VMHANRelationOutput",
]


def __getattr__(name: str):
    """The public names, imported (with torch) and registered with transformers when one is first asked for: what reads
    posts without a model does without both.
    """
    if name in __all__:
        return getattr(importlib.import_module(".registration", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
