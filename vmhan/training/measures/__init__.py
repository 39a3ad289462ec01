"""What a run's model is asked on its evaluation splits, beside the scores of the Trainer."""

__all__ = []
