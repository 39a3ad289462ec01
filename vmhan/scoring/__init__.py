"""Scores of saved predictions: the field's official scorer, intervals, calibration."""

__all__ = []
