"""The service `vmhan serve`: what a request may bring, and Ray Serve, which answers it."""

__all__ = []
