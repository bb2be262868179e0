"""The files that the scripts hand to each other, one module for each kind; no computing."""
