"""One HTML page about what a run got wrong."""

__all__ = []
