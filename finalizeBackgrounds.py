#!/usr/bin/env python
"""Step 4 of 5: denoise and fill the combined backgrounds, write the reference files.

For each combination (run makeBackgrounds.py first):
  1. denoise the combined background with non-local means,
  2. fill the pixels without data with maskfill,
  3. write the finished background with the flat-field out (for grizli), and, with the flat-field
     put back by the JWST pipeline, a second one (for the pipeline and CRDS).
Next: compareBackgrounds.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from astropy.io import fits

from wfssbkg import pipeline
from wfssbkg.files import (
    combined_background,
    exposure_table,
    flicker_noise,
    lock,
    masked_exposure,
    reference_file,
    up_to_date,
)
from wfssbkg.files.combined_background import Background
from wfssbkg.files.temporary import remove_unfinished
from wfssbkg.finalize import finish, reference_header
from wfssbkg.layout import Folder
from wfssbkg.run import command_line, messages
from wfssbkg.run.command_line import Run


def main() -> int:
    """Walk the combinations."""
    with command_line.start(__doc__) as run:
        for folder in run.folders:
            with run.attempt(folder), lock.hold(folder.lock):
                finish_background(run, folder)
    return run.exit_status()


def finish_background(run: Run, folder: Folder) -> None:
    """Write both finished files of a combination, unless they are there."""
    combined = combined_background.read(folder.background)
    run = replace(run, config=flicker_noise.settled(run.config, combined.inputs))
    accepted = exposure_table.fates(combined.inputs)[exposure_table.ACCEPTED]
    messages.warn_of_unusual_filter(folder.combination, len(accepted))
    few = messages.of_few_pointings(combined.pointings.max(), run.config.combine.minimum_pointings)
    messages.warn(few)
    first = "makeMask.py and makeBackgrounds.py"
    outdated = up_to_date.check(folder.background, run.config, up_to_date.COMBINED, folder, first)
    messages.warn(outdated)
    outputs = folder.finished, folder.finished_unflat
    for path in outputs:
        remove_unfinished(path.parent, path.name)
    settings = up_to_date.bearing(run.config, up_to_date.FINISHED, folder.combination)
    current = [up_to_date.is_current(path, settings, [folder.background]) for path in outputs]
    if all(current) and not run.overwrite:
        messages.say(f"{outputs[0]} and {outputs[1].name} are up to date: nothing to do")
        note_author(run, folder)
        return
    latest = folder.masked(exposure_table.latest(combined.inputs))
    flat, used = pipeline.flat_of(latest, folder.flat)
    flat_out = finish.finish(run.workers, run.config.finalize, combined)
    flat_in = finish.scaled(flat_out.sci * flat, flat_out.err * flat, combined)
    exposure, _ = masked_exposure.read_headers(latest)
    for path, finished in zip(outputs, (flat_out, flat_in), strict=True):
        header = reference_header.reference_header(
            folder.combination,
            exposure=exposure,
            background=combined,
            author=run.config.finalize.author,
            used=used,
            settings=settings,
            flat_is_out=finished is flat_out,
        )
        header.extend([("HISTORY", few)] * bool(few))
        write(run, path, finished, header)


def write(run: Run, path: Path, finished: Background, header: fits.Header) -> None:
    """Write one of the finished files."""
    limits = run.config.combine
    dq = finish.flags(finished, fewest=limits.minimum_exposures, pointings=limits.minimum_pointings)
    finished.inputs = exposure_table.without_folders(finished.inputs)
    settings = reference_header.all_settings(run.config)
    reference_file.write(path, finished, dq, header, settings)
    messages.say(f"wrote {path}")


def note_author(run: Run, folder: Folder) -> None:
    """Note another author in the headers of the finished files, which are not made again."""
    author = run.config.finalize.author
    for path in (folder.finished, folder.finished_unflat):
        if fits.getheader(path)["AUTHOR"] != author:
            reference_file.note(path, {"AUTHOR": (author, "author of the reference file")})
            messages.say(f"noted the author in {path}")


if __name__ == "__main__":
    command_line.run(main)
