"""Warnings that are given once, however many posts there are to give them for."""

import logging
from functools import cache


__all__ = ["warn_once"]


@cache
def warn_once(logger: logging.Logger, message: str) -> None:
    """A warning, unless this logger gave it before."""
    logger.warning(message)
