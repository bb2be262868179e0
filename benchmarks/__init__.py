"""Accuracy and speed of the backgrounds, measured on simulated archives with a known truth."""
