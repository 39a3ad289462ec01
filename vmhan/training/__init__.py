"""What run_mmre.py is made of: flags, data, model, trainer, results. The order of things is in `run_mmre.main`."""

__all__ = []
