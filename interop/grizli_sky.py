"""Subtract the sky from rate files with grizli; the files are changed in place.

This runs in grizli's Python, not in the project's. The environment variables say where things are:
GRIZLI names the folder with CONF, CRDS_PATH and the others the reference files.
"""

import argparse


def main() -> None:
    """Subtract the sky from each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rates", nargs="+", metavar="RATE", help="rate files to change")
    words = "only flat-field: the sky is subtracted already"
    parser.add_argument("--without-sky", action="store_true", help=words)
    options = parser.parse_args()

    from grizli.jwst_utils import img_with_flat
    from grizli.prep import visit_grism_sky

    for name in options.rates:
        img_with_flat(name, overwrite=True)
        if not options.without_sky:
            visit_grism_sky({"product": name.removesuffix(".fits"), "files": [name]})


if __name__ == "__main__":
    main()
