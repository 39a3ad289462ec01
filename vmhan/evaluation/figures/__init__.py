"""The paper's figures, from finished runs."""

__all__ = []
