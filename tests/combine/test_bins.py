import numpy as np
import pytest

from wfssbkg.combine import bins
from wfssbkg.errors import StepError

SHAPE = (24, 40)


@pytest.mark.parametrize("along_x", [True, False])
def test_bins_are_weighted_means_along_the_dispersion(along_x):
    rng = np.random.default_rng(4)
    sci = rng.normal(1, 0.1, SHAPE).astype(np.float32)
    err = rng.uniform(0.1, 0.3, SHAPE).astype(np.float32)
    bad = rng.random(SHAPE) < 0.3
    bad[:4, :4] = True
    sci[bad], err[0, 0] = np.nan, np.nan
    value, noise = bins.average(sci, err, bad, along_x=along_x)
    assert value.shape == noise.shape == bins.shape(SHAPE, along_x=along_x)
    assert value.dtype == noise.dtype == np.float32
    pixels = np.s_[7, 8:12] if along_x else np.s_[8:12, 7]
    place = (7, 2) if along_x else (2, 7)
    good = ~bad[pixels]
    inverse = 1 / err[pixels][good].astype(float) ** 2
    assert noise[place] == pytest.approx(inverse.sum() ** -0.5, rel=1e-5)
    assert value[place] == pytest.approx((sci[pixels][good] * inverse).sum() / inverse.sum())
    assert np.isnan([noise[0, 0], value[0, 0]]).all()
    assert bins.weight(noise)[0, 0] == 0
    assert bins.weight(noise)[place] == pytest.approx(inverse.sum(), rel=1e-5)


@pytest.mark.parametrize("along_x", [True, False])
def test_a_bin_has_a_source_where_one_of_its_pixels_has(along_x):
    rows = np.zeros((30, 40), dtype=bool)
    rows[15, 18] = True
    found = bins.any_of(rows[6:], along_x=along_x)  # works for a part of an array as well
    assert np.argwhere(found).tolist() == [[9, 4] if along_x else [2, 18]]


@pytest.mark.parametrize("along_x", [True, False])
def test_expanded_bins_cover_their_pixels(along_x):
    mask = np.zeros(bins.shape(SHAPE, along_x=along_x), dtype=bool)
    mask[2, 4] = True
    found = bins.expand(mask, along_x=along_x)
    assert found.shape == SHAPE
    assert found.sum() == bins.SIZE
    assert found[2 if along_x else 8, 16 if along_x else 4]


def test_a_frame_that_does_not_divide_is_an_error():
    image = np.ones((24, 38), dtype=np.float32)
    with pytest.raises(StepError, match="38 x 24"):
        bins.average(image, image, np.zeros((24, 38), bool), along_x=True)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7), (24, 40)])
def test_boxes_hold_the_sums_of_their_pixels(size):
    image = np.random.default_rng(2).random((24, 40), dtype=np.float32)
    found = bins.summed(image, size, np.float64)
    for y, row in enumerate(found):
        for x, total in enumerate(row):
            part = image[y * size[0] : (y + 1) * size[0], x * size[1] : (x + 1) * size[1]]
            assert total == pytest.approx(part.sum(dtype=np.float64))
    assert found.shape == tuple(-(-a // b) for a, b in zip((24, 40), size, strict=True))
