"""Tables, targets and picture of the benchmark. Rows are dictionaries from `accuracy.measure`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.table import Table

from benchmarks.metrics import COVERAGE, FIGURES
from benchmarks.sets import ALONE, Sample

REFERENCE = "reference"  # the recipe that others are compared with
STEPS = ("mask", "combine", "again", "finish")
STAGES = ("combined", "finished")
CALIBRATIONS = ("cal", *(f"cal_{first}" for first in COVERAGE))

# The targets of the project: figures of the finished background over those of the reference, of
# each set and combination, in the order of `RATED`.
RATED = FIGURES[:5]
MOST_OF_REFERENCE = {
    ("plain", "GR150C-F115W"): (0.5, 0.65, 1.0, 0.8, 0.55),
    ("plain", "GR150R-F200W"): (0.5, 0.65, 1.0, 0.8, 0.55),
    ("hard", "GR150C-F115W"): (0.3, 0.2, 0.7, 0.2, 0.4),
    ("hard", "GR150R-F200W"): (0.3, 0.2, 0.7, 0.25, 0.5),
    ("cleaned", "GR150C-F115W"): (0.35, 0.3, 0.8, 0.25, 0.5),
    ("cleaned", "GR150R-F200W"): (0.35, 0.3, 0.8, 0.25, 0.5),
}
REFERENCED = {name for name, _ in MOST_OF_REFERENCE}
PLAIN = ("plain", "N", "D")  # sets without any effect
CALIBRATED = (0.8, 1.25)
FARTHEST = 0.2  # from N^-0.5
MOST_OF_SKY = 0.6  # per cent, direct images
WIDTH = 92  # of a target with its result

# The target, the result, whether the target is met; None where there is no target.
Target = tuple[str, str, bool | None]


def print_heading(sample: Sample, limit: float) -> None:
    """Print the heading of the table of a sample."""
    print(
        f"\nSet {sample.name}, {sample.combination}, seed {sample.seed}, {len(sample.exposures)} "
        f"exposures: error in per cent, photon limit {limit:.3%}; std of (background - truth)/ERR "
        "by number of exposures per pixel"
    )
    bins = [f"n={first}" if first < 3 else f"n>={first}" for first in COVERAGE]
    titles = "".join(f"{title:>8}" for title in (*FIGURES, "/limit"))
    print(f"{'recipe':28}{titles}   |" + "".join(f"{title:>6}" for title in ("all", *bins)))


def print_run(rows: list[dict]) -> None:
    """Print the rows of one run, its time and memory, and the status of notable exposures."""
    for row in rows:
        values = "".join(f"{row[figure]:8.3f}" for figure in (*FIGURES, "over_limit"))
        pulls = "".join(f"{row[name]:6.2f}" for name in CALIBRATIONS)
        line = f"{row['recipe']:19}{row['stage']:9}{values}   |{pulls}"
        print(line.replace("nan", "  -"))
    times = ", ".join(f"{step} {row[f'{step}_s']:.0f} s" for step in STEPS if row[f"{step}_s"])
    memory = f", peak memory {row['peak_gb']:.1f} GB" if np.isfinite(row["peak_gb"]) else ""
    print(f"{'':19}{times}: {row['seconds']:.0f} s{memory}")
    for fate in row["fates"]:
        print(f"{'':19}{fate['kind']}: {fate['file']} {fate['status']} {fate['reason']}")
    print(end="", flush=True)


def pick(rows: list[dict], **values: object) -> list[dict]:
    """The rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def write(rows: list[dict], path: Path) -> None:
    """Write all rows as ECSV, with the status of notable exposures in the metadata."""
    table = Table([{key: value for key, value in row.items() if key != "fates"} for row in rows])
    units = dict.fromkeys((*FIGURES, "limit"), "percent") | {"peak_gb": "Gbyte", "seconds": "s"}
    for name, unit in (units | {f"{step}_s": "s" for step in STEPS}).items():
        table[name].unit = unit
    table.meta["fates"] = [
        {key: row[key] for key in ("set", "combination", "seed", "recipe")} | fate
        for row in pick(rows, stage="combined")
        for fate in row["fates"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, format="ascii.ecsv", overwrite=True)


def print_targets(rows: list[dict]) -> None:
    """Print the targets that the rows bear on, and what effects cost, of each recipe of ours."""
    for recipe in dict.fromkeys(row["recipe"] for row in rows if row["recipe"] != REFERENCE):
        print(f"\nTargets, recipe {recipe} (medians over the seeds; ! a missed one)")
        mine = pick(rows, recipe=recipe)
        others = pick(rows, recipe=REFERENCE)
        for target in (against_reference, exposures, scaling, times, calibrated, direct):
            for asked, found, met in target(mine, others):
                verdict = {True: "  met", False: "  NOT MET", None: ""}[met]
                print(f"  {asked}{found:>{WIDTH - len(asked)}}{verdict}")
        print_costs(pick(mine, stage="finished"))


def ratios(mine: list[dict], others: list[dict], name: str, combination: str) -> dict[str, float]:
    """Our finished figures and time over the reference's, medians over the seeds of a set."""
    chosen = {"set": name, "combination": combination, "stage": "finished"}
    below = {row["seed"]: row for row in pick(others, **chosen)}
    above = [row for row in pick(mine, **chosen) if row["seed"] in below]
    return {
        figure: float(np.median([row[figure] / below[row["seed"]][figure] for row in above]))
        for figure in (*RATED, "seconds")
        if above
    }


def against_reference(mine: list[dict], others: list[dict]) -> Iterator[Target]:
    """Target 1: errors of the finished background over those of the reference."""
    heading = "  finished over reference / at most"
    for (name, combination), limits in MOST_OF_REFERENCE.items():
        found = ratios(mine, others, name, combination)
        if not found:
            continue
        if heading:
            yield heading, "".join(f"{figure:>14}" for figure in RATED), None
        heading, cells = "", ""
        for figure, most in zip(RATED, limits, strict=True):
            cells += f"{found[figure]:7.3f} /{most:4.2f}{' ' if found[figure] <= most else '!'}"
        yield f"1 {name} {combination}", cells, "!" not in cells


def exposures(mine: list[dict], _: list[dict]) -> Iterator[Target]:
    """Target 3: which clean exposures were lost, and how many spoilt ones were recognised."""
    for name in dict.fromkeys(row["set"] for row in mine):
        runs = pick(mine, set=name, stage="combined")
        fates = [fate for row in runs for fate in row["fates"]]
        lost = sum(fate["kind"] == "clean" and fate["status"] != "accepted" for fate in fates)
        asked = "3 {}, clean exposures not accepted{}"
        if name in PLAIN:
            yield asked.format(name, ": none"), str(lost), not lost
        elif name not in ALONE:
            spoilt = [fate for fate in fates if fate["kind"] != "clean"]
            named = f"{sum(fate['reason'] != '' for fate in spoilt)} of {len(spoilt)}"
            yield asked.format(name, ""), str(lost), None
            yield f"3 {name}, spoilt exposures named with a reason", named, None


def scaling(mine: list[dict], _: list[dict]) -> Iterator[Target]:
    """Target 4: the error of the combined background falls as N^-0.5; in N-hard, how far."""
    combined = [row for row in pick(mine, stage="combined") if row["set"].startswith("N")]
    for name, seed in dict.fromkeys((row["set"], row["seed"]) for row in combined):
        chosen = pick(combined, set=name, seed=seed)
        asked = f"4 {name} combined, seed {seed}, "
        if name == "N":
            number, error, line = scaling_points(chosen)
            farthest = np.abs(error / line - 1).max()
            slope = np.polyfit(np.log(number), np.log(error), 1)[0]
            asked += f"pixel: within {FARTHEST:.0%} of N^-0.5 (and slope)"
            yield asked, f"{farthest:.0%} ({slope:.3f})", bool(farthest <= FARTHEST)
        for figure in ("pixel", "smooth") if name == "N-hard" else ():
            for count in range(1, len(chosen) + 1):
                number, error, line = scaling_points(chosen[:count], figure)
                if np.abs(error / line - 1).max() <= FARTHEST:
                    found = f"{number[-1]:.0f} exposures, {error[-1]:.3f} %"
            yield asked + f"{figure}: falls as N^-0.5, within {FARTHEST:.0%}, up to", found, None


def scaling_points(
    rows: list[dict], figure: str = "pixel"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of exposures, error, and the N^-0.5 line that fits best."""
    number, error = np.array([[row["exposures"], row[figure]] for row in rows], dtype=float).T
    return number, error, np.exp(np.mean(np.log(error * np.sqrt(number)))) / np.sqrt(number)


def times(mine: list[dict], others: list[dict]) -> Iterator[Target]:
    """Target 5: mask, combine and finish take no longer than the reference."""
    for name, combination in MOST_OF_REFERENCE:
        found = ratios(mine, others, name, combination)
        if found:
            asked = f"5 {name} {combination}, time over the reference's: at most 1"
            yield asked, f"{found['seconds']:.3f}", found["seconds"] <= 1


def calibrated(mine: list[dict], _: list[dict]) -> Iterator[Target]:
    """ERR is right at every coverage, in every run of a set."""
    low, high = CALIBRATED
    for name in dict.fromkeys(row["set"] for row in mine if row["set"] not in ALONE):
        for stage in STAGES:
            chosen = pick(mine, set=name, stage=stage)
            values = [row[key] for row in chosen for key in CALIBRATIONS[1:]]
            if np.isfinite(values).any():
                least, most = np.nanmin(values), np.nanmax(values)
                asked = f"ERR {name} {stage}, std of (background - truth)/ERR: {low} to {high}"
                yield asked, f"{least:.2f} to {most:.2f}", low <= least and most <= high


def direct(mine: list[dict], _: list[dict]) -> Iterator[Target]:
    """The target for direct images: the error of the finished background in every run."""
    chosen = pick(mine, set="D", stage="finished")
    if chosen:
        worst = max(row["pixel"] for row in chosen)
        asked = f"D finished, pixel, per cent of the sky: at most {MOST_OF_SKY}"
        yield asked, f"{worst:.3f}", worst <= MOST_OF_SKY


def print_costs(finished: list[dict]) -> None:
    """Print the error with each effect alone, below that of plain exposures of the same seed."""
    alone = [row for row in finished if row["set"] in ALONE]
    if not alone:
        return
    like = {key: alone[0][key] for key in ("combination", "seed")}
    print(f"\n  {'each effect alone, finished, per cent':40}" + "".join(f"{x:>10}" for x in RATED))
    for row in (*pick(finished, set="plain", **like), *alone):
        cells = "".join(f"{row[figure]:10.3f}" for figure in RATED)
        print(f"  {row['set'] + ', seed ' + str(row['seed']):40}{cells}")


def draw(rows: list[dict], path: Path) -> None:
    """Draw the error of sets N and N-hard against the number of exposures."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
    keys = "set", "recipe", "seed", "stage"
    chosen = [tuple(row[key] for key in keys) for row in rows if row["set"].startswith("N")]
    for run in dict.fromkeys(chosen):
        number, error, line = scaling_points(pick(rows, **dict(zip(keys, run, strict=True))))
        name, recipe, seed, stage = run
        colours = ("C0", "C1") if name == "N" else ("C2", "C3")
        style = ("o-", "s-")[STAGES.index(stage)] + colours[STAGES.index(stage)]
        axes.loglog(number, error, style, label=f"{name} {stage}, {recipe}, seed {seed}")
        if stage == "combined":
            axes.loglog(number, line, ":k", lw=1)
    axes.set(xlabel="exposures", ylabel="per-pixel RMS error, per cent of the sky")
    axes.set_title("GR150C-F115W, simulated; dotted: $N^{-0.5}$")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low < tick < high]
    axes.set_xticks(number, [f"{value:.0f}" for value in number])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
