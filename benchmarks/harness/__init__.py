"""How a benchmark measures: turns in one process, posts to read, models to compare, and one kind of report."""

__all__ = []
