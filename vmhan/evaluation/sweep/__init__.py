"""Many training runs by one command."""

__all__ = []
