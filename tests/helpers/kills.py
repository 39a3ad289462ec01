"""A kill that tests can raise."""

__all__ = ["Killed"]


class Killed(BaseException):
    """No code may catch it, as none can catch a kill."""
