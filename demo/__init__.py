"""A simulated archive of NIRISS wide-field slitless exposures, with its reference files."""
