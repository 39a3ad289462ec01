"""Exported forms of a trained classifier: how they are made, checked, measured, and asked."""

__all__ = []
