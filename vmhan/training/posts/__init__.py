"""The posts that a run learns from, and what may be done to them first."""

__all__ = []
