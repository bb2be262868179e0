"""Exposures combined from their files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from wfssbkg.combine import average, background, bins, stack
from wfssbkg.files import combined_background, masked_exposure, up_to_date
from wfssbkg.run.parallel import Workers


@pytest.mark.parametrize("binned", [False, True])
def test_a_pixel_is_bad_if_it_is_bad_in_all_exposures(binned, tmp_path):
    config, place = small.settings(), small.folder(tmp_path)
    nowhere = np.zeros((64, 64), dtype=np.uint8)
    bits = {"a": nowhere.copy(), "b": nowhere.copy(), "c": nowhere.copy()}
    for name in bits:
        bits[name][8:12, 8:12] = masked_exposure.BAD
    bits["a"][20:24, 20:24] = masked_exposure.BAD  # bad in this exposure only
    bits["b"][20:24, 20:28] = masked_exposure.BAD
    for name in bits:  # a pixel with a source is not bad
        bits[name][40:44, 40:44] = masked_exposure.SOURCE
    members = [
        small.masked_exposure(place, name, nowhere + 0.5, 0.01, bits=where, level=0.5)
        for name, where in bits.items()
    ]
    shared = small.nothing_common(members[0]) if binned else None
    _, _, number, bad, *_ = stack.combine_all(
        small.WORKERS, config.combine, members, shared, binned=binned
    )
    if binned:
        number, bad = (bins.expand(image, along_x=True) for image in (number, bad))
    expected = nowhere > 0
    expected[8:12, 8:12] = True
    np.testing.assert_array_equal(bad, expected)
    assert (number[8:12, 8:12] == 0).all()
    assert (number[20:24, 20:24] == 1).all()
    assert (number[20:24, 24:28] == 2).all()
    assert (number[40:44, 40:44] == 0).all()


@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    exposures=st.integers(1, 3000),
    memory=st.floats(1, 1e9),
)
def test_bands_cover_every_row_once_within_the_memory(rows, columns, exposures, memory):
    found = list(stack.bands(rows, columns, exposures, memory))
    assert [row for band in found for row in range(band.start, band.stop)] == list(range(rows))
    tallest = max(band.stop - band.start for band in found)
    used = tallest * columns * exposures * stack.BYTES_PER_PIXEL
    assert used <= memory or tallest == 1
    assert tallest <= stack.BAND_PIXELS / columns


@given(rows=st.integers(1, 80), memory=st.floats(1, 1e6))
def test_bands_are_of_whole_steps(rows, memory):
    found = list(stack.bands(4 * rows, 50, 3, memory, step=4))
    assert [row for band in found for row in range(band.start, band.stop)] == list(range(4 * rows))
    assert not any(band.start % 4 or band.stop % 4 for band in found)


def test_a_background_of_an_exposure_that_is_gone_is_not_current(tmp_path):
    """It was combined, is excluded now, and its masked exposure was removed."""
    place, names = small.folder(tmp_path), ["a_rate.fits", "b_rate.fits", "c_rate.fits"]
    for name in names:
        small.masked_exposure(place, name, np.ones((16, 16)), 0.01)
    inputs = small.table(*({"productFilename": name} for name in names))
    image = np.ones((16, 16), dtype=np.float32)
    made = combined_background.Background(image, image, image, image < 0, image, inputs)
    settings = up_to_date.bearing(small.DEFAULTS, up_to_date.COMBINED, place.combination)
    combined_background.write(place.background, made, settings=settings)
    assert background.is_current(place, names, settings)
    place.masked(names[2]).unlink()
    assert not background.is_current(place, names[:2], settings)


@pytest.mark.parametrize("number", [1, 2, 8, 64])
def test_the_bands_of_all_workers_together_fit_into_the_memory(number):
    compute = small.DEFAULTS.compute.model_copy(update={"workers": number, "memory_gb": 32})
    workers = Workers(compute, need_gb=0.1)
    assert workers.number == number
    assert number * stack._band_memory(workers) <= 32e9


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_distinct_pointings_are_counted_where_one_of_theirs_counts(number, seed):
    rng = np.random.default_rng(seed)
    counts, places = rng.random((number, 3, 4)) < 0.5, rng.integers(0, 3, number).tolist()
    found = stack.distinct_pointings(counts, places)
    for y, x in np.ndindex(3, 4):
        assert found[y, x] == len({p for p, c in zip(places, counts[:, y, x], strict=True) if c})


def test_what_is_wrong_with_one_deep_field_is_at_most_a_third_of_the_background(tmp_path):
    place, shape = small.folder(tmp_path), (32, 32)
    members = []
    for number in range(5):
        deep = number == 0
        name, sky = f"jw{number}_rate.fits", 0.53 if deep else 0.5
        noise = 0.001 if deep else 0.01
        made = small.masked_exposure(place, name, np.full(shape, sky), noise, level=0.5)
        made.pointing = {
            "RA_REF": 10.0 + 20 * number, "DEC_REF": 20.0, "ROLL_REF": 0.0, "V3I_YANG": 0.57,
            "VPARITY": -1,
        }  # fmt: skip
        members.append(made)
    options = small.settings().combine.model_copy(update={"clip_sigma": 1000.0})
    sci, *_, information = stack.combine_all(small.WORKERS, options, members, None)
    np.testing.assert_allclose(sci, 1 + 0.06 / 3, rtol=1e-5)
    np.testing.assert_allclose(average.shares(information), [1 / 3, *4 * [1 / 6]], rtol=1e-5)
