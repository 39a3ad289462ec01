"""The numbers of pages about data and trained models: leaks, protocols, facts, and kinds of evidence."""

__all__ = []
