"""The model and the processor that a run trains, with their first weights."""

__all__ = []
