"""Subtract the sky of rate files with grizli, in place: grizli's Python runs this, not ours.

The environment tells where: GRIZLI, the folder with CONF; CRDS_PATH and the like.
"""

import sys

from grizli.jwst_utils import img_with_flat
from grizli.prep import visit_grism_sky

for name in sys.argv[1:]:
    img_with_flat(name, overwrite=True)
    visit_grism_sky({"product": name.removesuffix(".fits"), "files": [name]})
