"""What each field that is not text tells of the label: `python -m datasets_scripts.audit`."""

__all__ = []
