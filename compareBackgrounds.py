#!/usr/bin/env python
"""Step 5 of 5: see how good the backgrounds are, and whether they are better than those in CRDS.

For each combination (run finalizeBackgrounds.py first):
  1. make the background again without each of some parts of the fields in turn,
  2. subtract the finished background, that without the exposure's own part of the fields, the one
     in CRDS, and that of compare.against, if there is one, from each exposure, each fitted to it,
  3. measure what is left, note the figures in the headers of the finished files, and keep all of
     it in the folder of the combination. With compare.write_residuals, write what is left of each
     exposure as a FITS file.
In the end, write one report of all combinations, and a table of their figures.
"""

from __future__ import annotations

from dataclasses import replace

from wfssbkg import layout
from wfssbkg.combine.background import WORKER_GB
from wfssbkg.compare import comparison, cross_validation, figures, report
from wfssbkg.errors import StepError
from wfssbkg.files import comparison_file, lock, reference_file, up_to_date
from wfssbkg.files.comparison_file import Comparison
from wfssbkg.files.temporary import remove_unfinished
from wfssbkg.finalize import finish
from wfssbkg.layout import Folder
from wfssbkg.run import command_line, messages
from wfssbkg.run.command_line import Run


def main() -> int:
    """Walk the combinations, then write report and table."""
    with command_line.start(__doc__, need_gb=WORKER_GB) as run:
        compared = []
        for folder in run.folders:
            with run.attempt(folder), lock.hold(folder.lock):
                compare_background(run, folder)
                compared.append(folder)
        write_report(run, compared)
    return run.exit_status()


def compare_background(run: Run, folder: Folder) -> None:
    """Compare the finished background of a combination, unless that has been done."""
    first = "makeMask.py, makeBackgrounds.py and finalizeBackgrounds.py"
    run = replace(run, config=comparison.settled(run.config, folder))
    outdated = up_to_date.check(folder.finished, run.config, up_to_date.FINISHED, folder, first)
    messages.warn(outdated)
    if not run.overwrite and comparison.is_current(run.config, folder):
        messages.say(f"{folder.comparison} is up to date: nothing to do")
        return
    found = comparison.begin(run.config, folder)
    score(run, folder, found)
    note_figures(folder, found)
    settings = comparison.made_with(run.config, folder)
    comparison_file.write(found, settings=settings)  # last, so that it is newer than its sources
    for sentence in figures.sentences(found):
        messages.say(sentence)
    for note in found.notes:
        messages.warn(note)


def score(run: Run, folder: Folder, found: Comparison) -> None:
    """Score the background, and those without each part of the fields, on the exposures."""
    workers, config, whole = run.workers, run.config, found.background
    combined = cross_validation.combined_exposures(config, folder, whole.inputs)
    comparison.note_limits(found, combined, config)
    for number, part in enumerate(combined.parts):
        without = cross_validation.combine_without(workers, config.combine, combined, part, whole)
        finished = finish.finish(workers, config.finalize, without)
        cross_validation.write_without(folder, number, finished)
    cross_validation.score(workers, config, found, combined)


def note_figures(folder: Folder, found: Comparison) -> None:
    """Note the figures in the headers of both finished files."""
    cards = figures.keywords(found.scores)
    for path in (folder.finished, folder.finished_unflat):
        remove_unfinished(path.parent, path.name)
        try:
            reference_file.note(path, cards, instead_of=reference_file.FIGURES)
        except StepError as error:
            found.notes.append(f"no figures in the header of {path.name}: it {error}")


def write_report(run: Run, compared: list[Folder]) -> None:
    """Write report and table of all that is compared, now or before, unless they are there."""
    comparisons = comparison.kept(run.config, compared)
    if not comparisons:
        return
    page, table = (name(run.config.output_directory) for name in (layout.report, layout.quality))
    for path in (page, table):
        remove_unfinished(path.parent, path.name)
    report.write(page, comparisons, run.config)
    report.write_figures(table, comparisons)
    messages.announce(f"\nReport: {page}")


if __name__ == "__main__":
    command_line.run(main)
