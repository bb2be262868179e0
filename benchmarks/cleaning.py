"""Measure backgrounds of exposures whose 1/f noise was cleaned, and of others, on both truths.

For archives of exposures of which none, all and a third were cleaned in stage 1, four scripts run
with the settings of `mask.flicker_noise` that matter. The finished background is compared with the
sky, and with what the pipeline's step leaves of it (`demo.archive.cleaned_truth`).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import yaml
from astropy.io import fits

from demo import archive, crds_cache, score
from demo import run as runner
from wfssbkg.detector import science_pixels

# How many exposures there are for one that stage 1 cleaned, 0 for none; and mask.flicker_noise.
CASES = {
    "none cleaned in stage 1, auto": (0, "auto"),
    "all cleaned, auto": (1, "auto"),
    "none cleaned, cleaned": (0, "cleaned"),
    "a third cleaned, auto": (3, "auto"),
    "a third cleaned, uncleaned": (3, "uncleaned"),
}
SMALL_FRAME = {"level_border": 16, "structure_box": 32}


def finished(case: str, exposures: list[archive.Exposure], options: argparse.Namespace) -> Path:
    """Make the background of some exposures, of which so many were cleaned; returns its file."""
    every, setting = CASES[case]
    exposures = [
        replace(spec, cleaning="COMPLETE" if every and number % every == 0 else None)
        for number, spec in enumerate(exposures)
    ]
    place = options.work / case.replace(" ", "_").replace(",", "")
    archive.simulate_archive(
        place / "rates", exposures, npix=options.npix, workers=2, seed=options.seed
    )
    grating, blocking = exposures[0].grating, exposures[0].filter
    settings = {
        "gratings": [grating],
        "filters": [blocking],
        "query": {"source": "rates", "gaia_g_limit": None},
        "mask": {"flicker_noise": setting},
    }
    if options.npix < 2048:
        settings["mask"]["background_box"] = 32
        settings["combine"] = SMALL_FRAME
    (place / "config.yaml").write_text(yaml.safe_dump(settings))
    with (place / "log.txt").open("w") as log:
        for script in runner.SCRIPTS:
            status = runner.run_script(script, place / "config.yaml", options.work, log).status
            if status:
                raise SystemExit(f"{script} ended with exit status {status}: see {log.name}")
    name = f"nis-{blocking.lower()}-{grating.lower()}_skyflat.fits"
    return place / "wfssbackgrounds" / name


def main(arguments: list[str] | None = None) -> int:
    """Print the errors of all cases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleaning", description=__doc__)
    add = parser.add_argument
    add("--combination", default="GR150C-F115W", help="default: GR150C-F115W")
    add("--npix", type=int, default=512, help="side of the frames in px (default: 512)")
    add("--seed", type=int, default=3, help="of sky and noise (default: 3)")
    add("--work", type=Path, required=True, help="folder for archives and results")
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    combination = tuple(options.combination.split("-"))
    crds_cache.build_cache(options.work / "crds", options.npix, [combination])
    exposures = archive.accuracy_exposures(options.seed, *combination, fields=4, dithers=3)
    truths = {
        "cleaned": archive.cleaned_truth(exposures, options.npix),
        "others": archive.truth_background(exposures, options.npix),
    }
    print(f"{len(exposures)} exposures, {options.npix} px; error a pixel and smoothed, per cent")
    print(f"{'':32}" + "".join(f"{f'truth of {name}':>22}" for name in truths))
    for case in CASES:
        with fits.open(finished(case, exposures, options)) as hdus:
            good = science_pixels(hdus["SCI"].shape) & (hdus["NEXP"].data > 0)
            found = [
                score.figures(score.relative_error(hdus["SCI"].data, truth, good))
                for truth in truths.values()
            ]
        cells = [f"{100 * each['pixel']:.3f}, {100 * each['smooth']:.3f}" for each in found]
        print(f"{case:32}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
