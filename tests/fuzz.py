"""Damage a rate file by chance, again and again, and mask what comes out.

python -m tests.fuzz RATE FOLDER NUMBER SEED [all]: prints one line of JSON for each damaged copy.
Without `all`, the damage is to the headers only, where most of it can be told without the pixels.
"""

import contextlib
import json
import signal
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

import makeMask
from tests.conftest import SMALL_FRAME
from wfssbkg import StepError, cli, config, masked
from wfssbkg.layout import Combination

LONGEST = 60  # s that one copy may take


def damage(content, headers, rng, *, everywhere):
    """A copy of a file with some bytes flipped, cut, repeated or zeroed; and what was done.

    `headers` are the places of the headers; most damage is done there, where a byte has a meaning.
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
    """What became of a damaged file: a reason, or how much of it is not as in the sound one."""
    with contextlib.suppress(FileNotFoundError):
        output.unlink()
    try:
        fraction = makeMask.mask_exposure(rate, output, Combination("GR150C", "F115W"), settings)
    except StepError as error:
        return {"reason": str(error), "left": len(list(output.parent.iterdir())) - 1}
    sci, err, mask = masked.read(output)
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
    cli.quieten(verbose=False)
    settings = config.read(config.DEFAULTS).mask.model_copy(update=SMALL_FRAME["mask"])
    whole = path.read_bytes()
    with fits.open(path) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    headers = [(place["hdrLoc"], place["datLoc"]) for place in places]
    combination = Combination("GR150C", "F115W")
    sound = folder / "sound_masked.fits"
    makeMask.mask_exposure(path, sound, combination, settings)
    expected = masked.read(sound)
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


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), "all" in sys.argv
    )
