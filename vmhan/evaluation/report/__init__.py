"""Tables of finished runs."""

__all__ = []
