"""queryData.py: find the exposures, leave out those near bright stars, download the rest."""
