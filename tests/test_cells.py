import numpy as np
import pytest

from wfssbkg import StepError, cells

SHAPE = (24, 40)


@pytest.mark.parametrize("along_x", [True, False])
def test_cells_are_weighted_means_along_the_dispersion(along_x):
    rng = np.random.default_rng(4)
    sci = rng.normal(1, 0.1, SHAPE).astype(np.float32)
    err = rng.uniform(0.1, 0.3, SHAPE).astype(np.float32)
    bad = rng.random(SHAPE) < 0.3
    bad[:4, :4] = True
    sci[bad], err[0, 0] = np.nan, np.nan
    value, weight = cells.average(sci, err, bad, along_x=along_x)
    assert value.shape == weight.shape == cells.shape(SHAPE, along_x=along_x)
    assert value.dtype == weight.dtype == np.float32
    pixels = np.s_[7, 8:12] if along_x else np.s_[8:12, 7]
    place = (7, 2) if along_x else (2, 7)
    good = ~bad[pixels]
    inverse = 1 / err[pixels][good].astype(float) ** 2
    assert weight[place] == pytest.approx(inverse.sum(), rel=1e-5)
    assert value[place] == pytest.approx((sci[pixels][good] * inverse).sum() / inverse.sum())
    assert weight[0, 0] == value[0, 0] == 0


@pytest.mark.parametrize("along_x", [True, False])
def test_expanded_cells_cover_their_pixels(along_x):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[9, 18] = True
    found = cells.expand(cells.touched(mask, along_x=along_x), along_x=along_x)
    assert found.shape == SHAPE
    assert found.sum() == cells.SIZE
    assert found[9, 18]
    assert found[9].sum() == (cells.SIZE if along_x else 1)


def test_a_frame_that_does_not_divide_is_an_error():
    image = np.ones((24, 38))
    with pytest.raises(StepError, match="38 x 24"):
        cells.average(image, image, image == 0, along_x=True)
