"""Everything that is made from finished runs: scores, reports, figures."""

__all__ = []
