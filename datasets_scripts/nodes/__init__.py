"""Which phrases and objects become nodes of a pair's hypergraph."""

__all__ = []
