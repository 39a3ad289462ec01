"""vmhan: Variational Multi-Modal Hypergraph Attention Network (IJCAI 2025) for multi-modal relation extraction."""

import importlib


PUBLIC = {  # name: its file
    "PRESETS": "configuration_vmhan",
    "MultimodalRelationClassificationPipeline": "pipeline_vmhan",
    "VMHANCollator": "processing_vmhan",
    "VMHANConfig": "configuration_vmhan",
    "VMHANForRelationClassification": "modeling_vmhan",
    "VMHANModel": "modeling_vmhan",
    "VMHANModelOutput": "outputs",
    "VMHANProcessor": "processing_vmhan",
    "VMHANRelationOutput": "outputs",
}
__all__ = list(PUBLIC)


def __getattr__(name: str):
    """The public names, imported (with torch) and registered with transformers when one is first asked for: what reads
    posts without a model does without both.
    """
    if name in PUBLIC:
        importlib.import_module(".registration", __name__)
        return getattr(importlib.import_module(f".{PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
