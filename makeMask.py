#!/usr/bin/env python
"""Step 2 of 5: flat-field every exposure and mask its sources.

For each accepted exposure of the exposure table (run queryData.py first):
  1. flat-field it with the JWST pipeline, and clean its 1/f noise before, if that is to be
     (mask.flicker_noise) and stage 1 did not,
  2. measure a rudimentary background with sep,
  3. detect sources on the image minus that background,
  4. mask all of them, and write the masked exposure.
The flat field is kept for finalizeBackgrounds.py.
Next: makeBackgrounds.py.
"""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from wfssbkg.errors import StepError
from wfssbkg.files import exposure_table, lock, up_to_date
from wfssbkg.layout import Folder
from wfssbkg.mask import combination
from wfssbkg.run import command_line, messages
from wfssbkg.run.command_line import Run

MOVED = {
    "--wfss-mask": {
        "action": command_line.Moved,
        "to": "python subtractBackgrounds.py --mask-only RATE [RATE ...]",
    }
}


def main() -> int:
    """Walk the combinations."""
    with command_line.start(__doc__, need_gb=combination.WORKER_GB, extra=MOVED) as run:
        for folder in run.folders:
            with run.attempt(folder), lock.hold(folder.lock):
                mask_combination(run, folder)
    return run.exit_status()


def mask_combination(run: Run, folder: Folder) -> None:
    """Mask every accepted exposure of a combination that is not masked yet."""
    table = exposure_table.read(folder.table)
    run = combination.settle(run, folder, table)
    done, wanted, gone = combination.sort_out(run, folder, table)
    messages.warn_of_unusual_filter(folder.combination, len(done + wanted + gone))
    if wanted:
        combination.check_references(run, wanted)
    failed = combination.mask_all(run, folder, table, wanted)
    if wanted:
        masked = f"{len(wanted) - failed} masked"
        messages.say(f"{masked}, {len(done)} were masked already, {failed} failed")
    elif not gone:
        messages.say(f"nothing to do: {len(done)} were masked already")
    if gone:
        raise StepError(
            f"{len(gone)} exposures have to be masked again, and their rate files were "
            "removed (query.keep_rates in the config). Run queryData.py to download them again"
            + (", with --overwrite as well" if run.overwrite else "")
        )
    combination.note_headers(table, folder)
    report_fractions(table)
    if not run.config.query.keep_rates:
        combination.remove_rates(table, folder, done + wanted)
    if wanted:
        combination.keep_flat(run, folder, table)
    left = "makeBackgrounds.py and finalizeBackgrounds.py"
    messages.warn(up_to_date.outdated(folder, table, left))


def report_fractions(table: Table) -> None:
    """Say how much of the exposures is masked; an error if there is none."""
    fractions = table["masked_fraction"][table["status"] == exposure_table.ACCEPTED]
    if not len(fractions):
        raise StepError("no exposure could be masked")
    messages.say(
        f"masked fraction {np.min(fractions):.0%} to {np.max(fractions):.0%}, "
        f"median {np.median(fractions):.0%}"
    )


if __name__ == "__main__":
    command_line.run(main)
