"""Object detectors behind one protocol."""

__all__ = []
