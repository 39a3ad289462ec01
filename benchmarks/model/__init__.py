"""What the model as such takes: steps and forward passes, memory, and the head alone, against the bare encoders."""

__all__ = []
