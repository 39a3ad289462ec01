"""Builders, phrase rules, the scorer and feature extraction behind the data sets of VM-HAN; import the one file you need."""

__all__ = []
