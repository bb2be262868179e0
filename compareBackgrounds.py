#!/usr/bin/env python
"""Step 5 of 5: see how good the backgrounds are, and whether they are better than those in CRDS.

For each combination (run finalizeBackgrounds.py first):
  1. make the background again without each of some parts of the fields in turn,
  2. subtract the finished background, that without the exposure's own part of the fields, and the
     one in CRDS from each exposure, each fitted to it,
  3. measure what is left, and note the figures in the headers of the finished files.
In the end, write all of it into one report.
"""

from __future__ import annotations

if __name__ == "__main__":  # the imports below take a while
    from wfssbkg import interrupted

    interrupted.ends_at_once()

from wfssbkg import StepError, cli, compare, exposures, files, layout, lock, products, report
from wfssbkg.config import fingerprint
from wfssbkg.layout import Folder


def compare_combination(run: cli.Run, folder: Folder) -> compare.Comparison:
    """Compare the finished background of a combination."""
    settings = fingerprint(run.config.mask, run.config.combine, run.config.finalize)
    if folder.finished.exists() and files.made_with(folder.finished) not in ("", settings):
        raise StepError(
            f"{folder.finished} was made with other settings of mask, combine or finalize than the "
            "config has. Run makeMask.py, makeBackgrounds.py and finalizeBackgrounds.py first"
        )
    comparison = compare.compare(run.config, folder)
    if folder.table.exists():
        cli.warn(products.outdated(folder.background, exposures.read(folder.table)))
    for path in (folder.finished, folder.finished_unflat):
        layout.remove_unfinished(path.parent, path.name)
        try:
            products.note_figures(path, compare.keywords(comparison.scores))
        except StepError as error:
            comparison.notes.append(f"no figures in the header of {path.name}: it {error}")
    say_figures(comparison)
    return comparison


def say_figures(comparison: compare.Comparison) -> None:
    """Say how good the background is, and what could not be told."""
    names = {compare.IN: "its own exposures", compare.OUT: "exposures it is made without"}
    for name, score in comparison.scores.items():
        whose = names.get(name, f"exposures, with {comparison.official_name} instead")
        cli.say(
            f"of {whose} {score.rms:.3f} % of the sky are left, of their means "
            f"{score.mean_rms:.3f} %"
        )
    for note in comparison.notes:
        cli.warn(note)


def report_all(run: cli.Run, comparisons: list[compare.Comparison]) -> None:
    """Write the report of all combinations, and the table of their figures."""
    page, table = (name(run.config.output_directory) for name in (layout.report, layout.quality))
    for path in (page, table):
        layout.remove_unfinished(path.parent, path.name)
    compare.write_figures(table, comparisons)
    report.write(page, comparisons, run.config)
    cli.announce(f"\nReport: {page}")


def main() -> int:
    """Walk the combinations, then write report and table."""
    run = cli.start(__doc__)
    comparisons = []
    for folder in run.folders:
        with run.attempt(folder), lock.hold(folder.lock):
            try:
                comparisons.append(compare_combination(run, folder))
            finally:
                folder.remove_compared()
    if comparisons:
        report_all(run, comparisons)
    return run.exit_status()


if __name__ == "__main__":
    cli.run(main)
