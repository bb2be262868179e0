"""How accurate the backgrounds are, measured on simulated archives whose truth is known."""
