"""makeBackgrounds.py: normalise the masked exposures, refine them, combine them."""
