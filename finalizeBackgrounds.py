#!/usr/bin/env python
"""Step 4 of 5: denoise and fill the combined backgrounds, write the reference files.

For each combination (run makeBackgrounds.py first):
  1. denoise the combined background with non-local means,
  2. fill what is left without data with maskfill,
  3. write the finished background with the flat-field out (for grizli), and, with the flat-field
     put back by the JWST pipeline, a second one (for the pipeline and CRDS).
Next: compareBackgrounds.py.
"""

from __future__ import annotations

if __name__ == "__main__":  # the imports below take a while
    from wfssbkg import interrupted

    interrupted.ends_at_once()

from wfssbkg import (
    StepError,
    cli,
    exposures,
    files,
    finalize,
    flatfield,
    lock,
    masked,
    products,
    provenance,
)
from wfssbkg.config import fingerprint
from wfssbkg.layout import Folder, remove_unfinished


def finish(run: cli.Run, folder: Folder) -> None:
    """Write both finished files of a combination, unless they are there."""
    combined = products.read_background(folder.background)
    at_hand = len(exposures.fates(combined.inputs)[exposures.ACCEPTED])
    cli.warn(products.doubtful(folder.combination, at_hand))
    sections = {name: getattr(run.config, name) for name in ("mask", "combine", "finalize")}
    settings = fingerprint(*sections.values())
    if files.made_with(folder.background) != fingerprint(run.config.mask, run.config.combine):
        raise StepError(
            f"{folder.background} was made with other settings of mask or combine than the config "
            "has. Run makeMask.py and makeBackgrounds.py first"
        )
    if folder.table.exists():
        cli.warn(products.outdated(folder.background, exposures.read(folder.table)))
    outputs = folder.finished, folder.finished_unflat
    for path in outputs:
        remove_unfinished(path.parent, path.name)
    if not run.overwrite and all(
        products.is_current(path, settings=settings, sources=[folder.background])
        for path in outputs
    ):
        cli.say(f"{outputs[0]} and {outputs[1].name} are up to date: nothing to do")
        return
    latest = folder.masked(exposures.latest(combined.inputs))
    flat, used = flatfield.flat_of(latest, folder.flat)
    flat_out = finalize.finish(run.config, combined)
    flat_in = products.finished(flat_out.sci * flat, flat_out.err * flat, combined)

    history = products.history(combined.inputs, used, sections)
    for path, finished in zip(outputs, (flat_out, flat_in), strict=True):
        header = products.reference_header(
            folder.combination,
            exposure=masked.read_headers(latest)[0],
            inputs=combined.inputs,
            author=run.config.finalize.author,
            history=history,
            flat_is_out=finished is flat_out,
        )
        header.update(used | {"SETTINGS": settings})
        products.write_finished(
            path,
            finished,
            header,
            fewest=run.config.combine.minimum_exposures,
            provenance=provenance.to_hdu(run.config),
        )
        cli.say(f"wrote {path}")


def main() -> int:
    """Walk the combinations."""
    run = cli.start(__doc__)
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            finish(run, folder)
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
