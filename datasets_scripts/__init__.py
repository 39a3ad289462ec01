"""Builders, phrase rules, scorer and feature extraction of VM-HAN's data sets; import the one file you need."""

__all__ = []
