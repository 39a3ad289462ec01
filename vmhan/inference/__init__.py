"""Answers for files of questions: here, over a Ray cluster, or through an exported graph."""

__all__ = []
