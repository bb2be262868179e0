"""Tables, targets and picture of the benchmark. Rows are dictionaries from `accuracy.measure`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.table import Table

from benchmarks.metrics import COVERAGE, FIGURES

BASE = "published"  # the recipe that others are compared with
STEPS = ("mask", "combine", "finish")
CALIBRATIONS = ("cal", *(f"cal_{first}" for first in COVERAGE))

# The targets of the project.
MOST_OF_BASE = dict.fromkeys(FIGURES, 0.5) | {"pixel": 0.45, "smooth": 0.45, "row": 0.75}
MOST_OF_LIMIT, MOST_OF_SET_A = 1.12, 1.10
CALIBRATED = {"combined": (0.9, 1.1), "finished": (0.7, 1.3)}
MOST_OF_SKY = 0.6  # per cent, direct images

Target = tuple[str, str, bool]  # the target, the result, whether the target is met


def print_heading(name: str, seed: int, number: int, limit: float) -> None:
    """Print the heading of the table of a sample."""
    print(
        f"\nSet {name}, seed {seed}, {number} exposures: error in per cent, photon limit "
        f"{limit:.3%}; std of (background - truth)/ERR by number of exposures per pixel"
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
    times = ", ".join(f"{step} {row[f'{step}_s']:.0f} s" for step in STEPS)
    print(f"{'':19}{times}: {row['seconds']:.0f} s, peak memory {row['peak_gb']:.1f} GB")
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
        {key: row[key] for key in ("set", "seed", "recipe")} | fate
        for row in pick(rows, stage="combined")
        for fate in row["fates"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, format="ascii.ecsv", overwrite=True)


def print_targets(rows: list[dict]) -> None:
    """Print the targets that the rows bear on, for each recipe except the published one."""
    for recipe in dict.fromkeys(row["recipe"] for row in rows if row["recipe"] != BASE):
        print(f"\nTargets, recipe {recipe} (medians over the seeds)")
        for target in (against_base, contamination, scaling, calibrated, direct):
            for asked, found, met in target(rows, recipe):
                print(f"  {asked:64}{found:>20}  {'met' if met else 'NOT MET'}")


def ratios(asked: str, most: float, figure: str, over: list[dict], under: list[dict]) -> Iterator:
    """The target for the ratio of a figure between rows of the same seeds, if there are any."""
    below = {row["seed"]: row[figure] for row in under}
    values = [row[figure] / below[row["seed"]] for row in over if row["seed"] in below]
    if values:
        found = float(np.median(values))
        yield f"{asked}: at most {most:g}", f"{found:.3f}", found <= most


def against_base(rows: list[dict], recipe: str) -> Iterator[Target]:
    """Targets 1 and 6: errors over the photon limit and the published recipe; the time."""
    for name in ("A", "B"):
        mine = pick(rows, set=name, recipe=recipe)
        base = pick(rows, set=name, recipe=BASE, stage="finished")
        combined, finished = (pick(mine, stage=stage) for stage in CALIBRATED)
        limit = [row | {"pixel": row["limit"]} for row in combined]
        asked = f"1 {name} combined, pixel over photon limit"
        yield from ratios(asked, MOST_OF_LIMIT, "pixel", combined, limit)
        for figure, most in MOST_OF_BASE.items():
            asked = f"1 {name} finished, {figure} over published"
            yield from ratios(asked, most, figure, finished, base)
        if name == "A":
            yield from ratios("6 A time over published", 1, "seconds", finished, base)


def contamination(rows: list[dict], recipe: str) -> Iterator[Target]:
    """Target 2: set C is as good as A, and its contaminated exposures are recognised."""
    runs = pick(rows, set="C", recipe=recipe)
    for stage in CALIBRATED if runs else ():
        mine, clean = pick(runs, stage=stage), pick(rows, set="A", recipe=recipe, stage=stage)
        for figure in FIGURES:
            asked = f"2 C {stage}, {figure} over set A"
            yield from ratios(asked, MOST_OF_SET_A, figure, mine, clean)
    all_fates = [fate for row in pick(runs, stage="combined") for fate in row["fates"]]
    spoilt = [fate for fate in all_fates if fate["kind"] != "clean"]
    if spoilt:
        named = sum(fate["reason"] != "" for fate in spoilt)
        lost = sum(fate["kind"] == "clean" and fate["status"] != "accepted" for fate in all_fates)
        found = f"{named} of {len(spoilt)}"
        yield "2 C contaminated exposures named with a reason", found, named == len(spoilt)
        yield "2 C clean exposures rejected: none", str(lost), not lost


def scaling(rows: list[dict], recipe: str) -> Iterator[Target]:
    """Target 3: the error of the combined background falls as N^-0.5."""
    chosen = pick(rows, set="N", recipe=recipe, stage="combined")
    for seed in dict.fromkeys(row["seed"] for row in chosen):
        number, error, line = scaling_points(pick(chosen, seed=seed))
        slope = np.polyfit(np.log(number), np.log(error), 1)[0]
        farthest = np.abs(error / line - 1).max()
        asked = f"3 N combined, seed {seed}: within 20 % of N^-0.5 (and slope)"
        yield asked, f"{farthest:.0%} ({slope:.3f})", farthest <= 0.2


def scaling_points(rows: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of exposures, per-pixel RMS error, and the N^-0.5 line that fits best."""
    number, error = np.array([[row["exposures"], row["pixel"]] for row in rows], dtype=float).T
    return number, error, np.exp(np.mean(np.log(error * np.sqrt(number)))) / np.sqrt(number)


def calibrated(rows: list[dict], recipe: str) -> Iterator[Target]:
    """Target 4: ERR is right at every coverage, in every run."""
    for stage, (low, high) in CALIBRATED.items():
        chosen = pick(rows, recipe=recipe, stage=stage)
        values = [row[name] for row in chosen for name in CALIBRATIONS[1:]]
        if np.isfinite(values).any():
            least, most = np.nanmin(values), np.nanmax(values)
            asked = f"4 {stage}, std of (background - truth)/ERR: {low} to {high}"
            yield asked, f"{least:.2f} to {most:.2f}", low <= least and most <= high


def direct(rows: list[dict], recipe: str) -> Iterator[Target]:
    """The target for direct images: the error of the finished background in every run."""
    chosen = pick(rows, set="D", recipe=recipe, stage="finished")
    if chosen:
        worst = max(row["pixel"] for row in chosen)
        asked = f"D finished, pixel, per cent of the sky: at most {MOST_OF_SKY}"
        yield asked, f"{worst:.3f}", worst <= MOST_OF_SKY


def draw(rows: list[dict], path: Path) -> None:
    """Draw the error of set N against the number of exposures."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
    chosen = pick(rows, set="N")
    for recipe, seed, stage in dict.fromkeys((r["recipe"], r["seed"], r["stage"]) for r in chosen):
        number, error, line = scaling_points(pick(chosen, recipe=recipe, seed=seed, stage=stage))
        style = {"combined": "o-C0", "finished": "s-C1"}[stage]
        axes.loglog(number, error, style, label=f"{stage}, {recipe}, seed {seed}")
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
