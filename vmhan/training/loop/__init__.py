"""The Trainer for posts, and what it does at each step and at the end of an epoch."""

__all__ = []
