"""How far a step is: a bar on a terminal, and nothing elsewhere."""

from typing import Any

from tqdm import tqdm

from wfssbkg.run import messages

tqdm.monitor_interval = 0  # no thread of its own: worker processes are forked beside its bars


def bar(description: str, total: int, unit: str, **options: Any) -> tqdm:
    """
    A bar that shows how far a step is; nothing where standard error is no terminal, or is quiet.

    Parameters
    ----------
    description : str
        Of the step.
    total, unit : int, str
        How much there is to do, and of what.
    **options
        As for `~tqdm.tqdm`.

    Returns
    -------
    `~tqdm.tqdm`
        A context manager; its `update` is told of what has been done.
    """
    return tqdm(
        desc=f"  {description}",
        total=total,
        unit=unit if options.get("unit_scale") else f" {unit}",
        leave=False,
        dynamic_ncols=True,
        disable=messages.screen.quiet or None,
        **options,
    )
