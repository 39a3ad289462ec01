"""From raw posts to a data set folder: `python -m datasets_scripts.prepare`."""

__all__ = []
