"""Scores, comparisons, reports and pictures, made from the folders of finished runs; import the one file you need."""

__all__ = []
