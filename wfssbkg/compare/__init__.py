"""compareBackgrounds.py: how good the backgrounds are, with cross-validation and a report."""
