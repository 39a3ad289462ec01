"""One builder a data set, how their files are read, and how what they build is cached."""

__all__ = []
