"""What answers take, from a file of posts or pictures to relations, against the bare encoders and alternatives."""

__all__ = []
