#!/usr/bin/env python
"""Step 4 of 4: denoise and fill the combined backgrounds, write the reference files.

For each combination (run makeBackgrounds.py first):
  1. denoise the combined background with non-local means,
  2. fill what is left without data with maskfill,
  3. write the finished background with the flat-field out (for grizli), and, with the flat-field
     put back by the JWST pipeline, a second one (for the pipeline and CRDS).
"""

from __future__ import annotations

if __name__ == "__main__":  # the imports below take a while
    from wfssbkg import interrupted

    interrupted.ends_at_once()

import numpy as np

from wfssbkg import (
    StepError,
    cli,
    denoise,
    exposures,
    files,
    flatfield,
    lock,
    masked,
    parallel,
    products,
    provenance,
)
from wfssbkg.config import Finalize, fingerprint
from wfssbkg.layout import Folder, remove_unfinished


def denoise_tile(tile: np.ndarray, typical: float, settings: Finalize) -> np.ndarray:
    """Some rows of the background without noise."""
    return denoise.denoise(
        tile,
        typical,
        patch_size=settings.patch_size,
        patch_distance=settings.patch_distance,
        strength=settings.strength,
        discount=settings.noise == "propagated",
    )


def denoise_background(run: cli.Run, sci: np.ndarray, err: np.ndarray) -> tuple[np.ndarray, float]:
    """The background without noise, in tiles, and what share of the noise is left.

    NaN where there was no value.
    """
    settings = run.config.finalize
    ready, typical = denoise.prepare(sci, err, noise=settings.noise)
    sizes = {"patch_size": settings.patch_size, "patch_distance": settings.patch_distance}
    tiles = list(denoise.tiles(len(ready), **sizes))
    jobs = [(ready[taken], typical, settings) for taken, _ in tiles]
    options = {"compute": run.config.compute, "unit": "tile"}
    parts = parallel.run_in_order(denoise_tile, jobs, description="denoising", **options)
    smooth = np.concatenate([part[kept] for part, (_, kept) in zip(parts, tiles, strict=True)])
    # What becomes of noise shows when it is added to parts that are free of it.
    trials = denoise.trials(smooth, typical, **sizes)
    jobs = [(noisy, typical, settings) for _, noisy in trials]
    again = parallel.run_in_order(denoise_tile, jobs, description="uncertainty", **options)
    before = [clean for clean, _ in trials]
    left = denoise.noise_left(before, again, **sizes) / typical
    return np.where(np.isfinite(sci), smooth, np.nan), left


def smooth_and_fill(run: cli.Run, combined: products.Background) -> tuple[np.ndarray, np.ndarray]:
    """The background without noise and without gaps, and its uncertainty; reference pixels NaN."""
    inner = products.inner_pixels()
    smooth, left = denoise_background(run, combined.sci[inner], combined.err[inner])
    # Where fewer exposures count, what they leave of sources and stripes grows as the noise does.
    typical = np.nanmedian(combined.err[inner])
    err = combined.err[inner] * np.hypot(left, combined.systematic / typical)
    # Next to nothing is known of a filled pixel: no more than of one before denoising.
    err[np.isnan(err)] = typical
    sci, uncertainty = np.full((2, *combined.sci.shape), np.nan, dtype=np.float32)
    sci[inner] = denoise.fill(smooth, size=run.config.finalize.fill_size)
    uncertainty[inner] = err
    return sci, uncertainty


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
    smooth, err = smooth_and_fill(run, combined)
    flat_out = products.finished(smooth, err, combined)

    latest = folder.masked(exposures.latest(combined.inputs))
    *flat_in, used = flatfield.unflat(flat_out.sci, flat_out.err, latest)
    flat_in = products.finished(*flat_in, combined)

    history = products.history(combined.inputs, used, sections)
    for path, background in zip(outputs, (flat_out, flat_in), strict=True):
        header = products.reference_header(
            folder.combination,
            exposure=masked.read_headers(latest)[0],
            inputs=combined.inputs,
            author=run.config.finalize.author,
            history=history,
            flat_is_out=background is flat_out,
        )
        header.update(used | {"SETTINGS": settings})
        products.write_finished(
            path,
            background,
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
