"""Measurements, each a command; import the one file you need. A room imports only `harness` and itself."""

__all__ = []
