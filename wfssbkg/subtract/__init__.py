"""Subtract the sky from exposures: `subtractBackgrounds.py`."""
