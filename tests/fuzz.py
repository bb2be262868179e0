"""Damage copies of a rate file at random, and mask each of them.

It prints one line of JSON for each damaged copy. Without `all`, only the headers are damaged, where
most damage can be found without looking at the pixels.
"""

import argparse
import contextlib
import json
import signal
from pathlib import Path

import numpy as np
from astropy.io import fits

from tests.conftest import SMALL_FRAME
from wfssbkg import config
from wfssbkg.errors import StepError
from wfssbkg.files import masked_exposure
from wfssbkg.layout import Combination
from wfssbkg.mask.exposure import mask_exposure
from wfssbkg.run import messages

LONGEST = 60  # s that one copy may take


def damage(content, headers, rng, *, everywhere):
    """A copy of a file with some bytes flipped, cut, repeated or zeroed, and a note of the damage.

    `headers` are the places of the headers. Most damage is done there, where each byte has a
    meaning.
    """
    content = bytearray(content)
    kind = rng.choice(["flip", "flip", "flip", "cut", "truncate", "repeat", "zero"])
    length = int(rng.choice([1, 8, 80, 2880, 5760, 100_000]))
    start, end = headers[rng.integers(len(headers))]
    if everywhere and rng.random() < 0.4:
        start, end = 0, len(content)
    place = int(rng.integers(start, end))
    if kind == "flip":
        length = int(rng.choice([1, 1, 4, 40]))
        if (start, end) in headers:  # keywords and their values: the rest is comments and blanks
            cards = [k for k in range(start, end, 80) if content[k : k + 1].isalpha()]
            card = int(rng.choice(cards))
            place = card + int(rng.choice([k for k in range(31) if content[card + k] != 32]))
        for byte in range(place, min(place + length, len(content))):
            content[byte] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[place : place + length]
    elif kind == "truncate":
        place, length = int(rng.integers(len(content))), len(content)
        del content[place:]
    elif kind == "repeat":
        content[place:place] = content[place : place + length]
    else:
        content[place : place + length] = bytes(len(content[place : place + length]))
    return bytes(content), f"{kind} of {length} bytes at {place}"


def outcome(rate, output, settings, sound):
    """The reason why a damaged file is refused, or how much of it differs from the sound one."""
    with contextlib.suppress(FileNotFoundError):
        output.unlink()
    try:
        fraction = mask_exposure(rate, output, Combination("GR150C", "F115W"), settings, {})
    except StepError as error:
        return {"reason": str(error), "left": len(list(output.parent.iterdir())) - 1}
    sci, err, mask = masked_exposure.read(output)
    if sci.shape != sound[0].shape:
        return {"fraction": fraction, "differs": 1.0, "left": 0}
    used = (mask == 0) & (sound[2] == 0)
    differs = used & ~(np.isclose(sci, sound[0], rtol=1e-4) & np.isclose(err, sound[1], rtol=0.1))
    lost = (mask != 0) & (sound[2] == 0)
    return {
        "fraction": fraction,
        "differs": float(differs.mean()),
        "lost": float(lost.mean()),
        "left": len(list(output.parent.iterdir())) - 2,
    }


def main(path, folder, number, seed, everywhere):
    messages.quieten(verbose=False)
    settings = config.read(config.DEFAULTS).mask.model_copy(update=SMALL_FRAME["mask"])
    whole = path.read_bytes()
    with fits.open(path) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    headers = [(place["hdrLoc"], place["datLoc"]) for place in places]
    combination = Combination("GR150C", "F115W")
    sound = folder / "sound_masked.fits"
    mask_exposure(path, sound, combination, settings, {})
    expected = masked_exposure.read(sound)
    sound.unlink()
    rate, output = folder / path.name, folder / "damaged_masked.fits"
    rng = np.random.default_rng(seed)
    for _ in range(number):
        content, what = damage(whole, headers, rng, everywhere=everywhere)
        if content == whole:
            continue
        rate.write_bytes(content)
        signal.alarm(LONGEST)  # ends this process
        line = {"what": what} | outcome(rate, output, settings, expected)
        signal.alarm(0)
        print(json.dumps(line), flush=True)


def read_options():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("rate", type=Path, help="a sound rate file")
    parser.add_argument("folder", type=Path, help="where the damaged copies go")
    parser.add_argument("number", type=int, help="of copies")
    parser.add_argument("seed", type=int, help="of the random damage")
    parser.add_argument("where", nargs="?", choices=["all"], help="damage the pixels as well")
    return parser.parse_args()


if __name__ == "__main__":
    options = read_options()
    main(options.rate, options.folder, options.number, options.seed, options.where == "all")
