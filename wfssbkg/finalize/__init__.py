"""finalizeBackgrounds.py: denoise and fill the combined backgrounds, write the reference files."""
