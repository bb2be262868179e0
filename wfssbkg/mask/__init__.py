"""makeMask.py: flat-field every exposure and mask its sources."""
