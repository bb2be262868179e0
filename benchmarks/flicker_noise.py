"""The 1/f noise that rate images keep: what demo/detector.py simulates, and where it is from.

Pink noise is drawn as the noise model of the NIRISS team has it, pixel by pixel as the four
amplifiers read them, for all frames of a ramp: a part that they have in common, one of each
amplifier, and one of its even and its odd pixels each, with an offset of each amplifier and frame.
The ramp is fitted with the weights of the pipeline. Reference pixels correct the result as the
`refpix` step does with its defaults: of each amplifier, the mean of the first and of the last four
columns; then the running median over 11 columns of the reference pixels at their two ends. These
steps are linear but for the median, so that they are done once, on the fitted image.

Printed are the standard deviation of columns (means over an amplifier's 512 px, DN/s), the share
of their variance that is common to the amplifiers, what is left of them in means over 16 and over
256 columns, the offset of an amplifier and of the whole frame, and the drift within a column (half
the difference of a straight line's ends). The last three are relative to the first. Two thousand
random numbers for each column are drawn: it takes some minutes, and 8 GB for 72 frames.

Sources: constants of `noise_simulation.py` by K. Volk and `awesim.py` in
github.com/spacetelescope/awesimsoss, on the noise generator of Rauscher (2015, PASP 127, 1144);
weights of the fit by Fixsen et al. (2000, PASP 112, 1350) as in `jwst.ramp_fitting`; read-out and
reference pixels as in `jwst.refpix`.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.fft
from scipy.ndimage import median_filter, uniform_filter1d

GAIN = 1.612  # e-/DN
READ_NOISE, COMMON, OWN, ALTERNATING, PEDESTAL = 12.95, 9.6, 3.2, 2.0, 18.3  # e-, of a frame
AMPLIFIERS, COLUMNS, HEIGHT = 4, 2048, 512
PAUSE, LAST = 12, 1  # pixels after each column and columns after each frame, in which none is read
STEPS = (HEIGHT + PAUSE) * (COLUMNS + LAST)  # in a frame
FRAME = STEPS * 1e-5  # s
BORDER = 4  # reference pixels at each end
SMOOTHED = 11  # columns: side_smoothing_length of the step
POWERS = ((5, 0.0), (10, 0.4), (20, 1.0), (50, 3.0), (100, 6.0), (np.inf, 10.0))


def pink(rng: np.random.Generator, number: int) -> np.ndarray:
    """So many values of 1/f noise, float32, with a standard deviation of 1."""
    length = scipy.fft.next_fast_len(2 * number, real=True)  # twice, or it would be periodic
    spectrum = scipy.fft.rfft(rng.standard_normal(length, dtype=np.float32), workers=2)
    frequency = np.arange(spectrum.size, dtype=np.float32)
    frequency[0] = np.inf
    spectrum /= np.sqrt(frequency)
    values = scipy.fft.irfft(spectrum, length, workers=2)[:number]
    return values / values.std()


def weights(frames: int, averaged: int, level: float) -> np.ndarray:
    """The weight of each frame in the slope of a ramp, s^-1.

    Parameters
    ----------
    frames : int
    averaged : int
        Frames that are averaged in a group: 1 for NISRAPID, 4 for NIS.
    level : float
        Of the sky, DN/s.
    """
    groups, time = frames // averaged, averaged * FRAME
    electrons = level * (groups - 1) * time * GAIN
    signal_to_noise = electrons / np.sqrt(electrons + READ_NOISE**2)
    power = next(power for most, power in POWERS if signal_to_noise < most)
    number = np.arange(groups) - (groups - 1) / 2
    weight = np.abs(number / number.max()) ** power
    slope = weight * number / (weight * number**2).sum() / time
    return np.append(np.repeat(slope / averaged, averaged), np.zeros(frames - groups * averaged))


def corrected(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    """1/f noise of a slope image after the correction, DN/s, shape (4, 2048, 512)."""

    def fitted() -> np.ndarray:
        frames = pink(rng, STEPS * weight.size).reshape(weight.size, STEPS)
        image = np.tensordot(weight.astype(np.float32), frames, 1)
        return image.reshape(COLUMNS + LAST, HEIGHT + PAUSE)[:COLUMNS, :HEIGHT]

    of_frames = np.sqrt((weight**2).sum())  # noise that is another one in each frame
    own = np.hypot(OWN, ALTERNATING / np.sqrt(2))  # even and odd pixels average in a column
    common = COMMON * fitted()
    image = np.stack([common + own * fitted() for _ in range(AMPLIFIERS)])
    image += PEDESTAL * of_frames * rng.standard_normal((AMPLIFIERS, 1, 1))

    read_noise = READ_NOISE * of_frames
    ends = np.concatenate([image[:, :BORDER], image[:, -BORDER:]], 1)
    ends = ends + read_noise * rng.standard_normal(ends.shape)
    image -= ends.mean((1, 2), keepdims=True)
    sides = image[[0, -1], :, :BORDER]  # the outer amplifiers read their edges first
    sides = sides + read_noise * rng.standard_normal(sides.shape)
    image -= median_filter(sides.mean(2), (1, SMOOTHED)).mean(0)[:, np.newaxis]
    return image / GAIN


def main() -> None:
    """Print a row for each ramp."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[28, 72], help="default: 28 72")
    parser.add_argument("--draws", type=int, default=3, help="of each ramp (default: 3)")
    parser.add_argument("--level", type=float, default=0.4, help="of the sky, DN/s (default: 0.4)")
    options = parser.parse_args()
    names = "frames  time  pattern   columns  common    16   256  offset  frame  drift"
    print(names)
    for frames in options.frames:
        for pattern, averaged in (("NISRAPID", 1), ("NIS", 4)):
            weight = weights(frames, averaged, options.level)
            draws = [
                corrected(np.random.default_rng([frames, draw]), weight)
                for draw in range(options.draws)
            ]
            along = np.linspace(-1, 1, HEIGHT)
            drift = np.stack([(image * along).mean(2) / (along**2).mean() for image in draws])
            columns = np.stack([image.mean(2) for image in draws])
            offset = columns.mean(2, keepdims=True)
            columns -= offset
            rms = columns.std()
            common = columns.mean(1).var()  # with a quarter of the variance of each one's own
            share = (AMPLIFIERS * common / rms**2 - 1) / (AMPLIFIERS - 1)
            left = [uniform_filter1d(columns, width, axis=2).std() / rms for width in (16, 256)]
            print(
                f"{frames:6} {frames * FRAME:5.0f}  {pattern:8} {rms:8.5f} {share:7.2f} "
                f"{left[0]:5.2f} {left[1]:5.2f} {offset.std() / rms:7.2f} "
                f"{offset.mean(1).std() / rms:6.2f} {drift.std() / rms:6.2f}"
            )


if __name__ == "__main__":
    main()
