"""Model and data set cards out of saved files, and publishing them on the Hub; import the one file you need."""

__all__ = []
