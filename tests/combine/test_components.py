"""Light that several fields share, found in maps with known answers."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import sky, small
from wfssbkg.combine import components
from wfssbkg.files import any_background, combined_background, reference_file
from wfssbkg.files.combined_background import Background, Components

SHAPE = (16, 16)
NOISE = 0.001  # of a box, in units of the level
FIELDS = [[3 * k, 3 * k + 1, 3 * k + 2] for k in range(6)]
Y, X = np.mgrid[:16, :16] / 15 - 0.5
BAND = np.exp(-0.5 * ((Y - 0.1 + 0.2 * X) / 0.1) ** 2)
OTHER = np.exp(-0.5 * ((X + 0.2) / 0.1) ** 2)
IN_FIELDS = (0.03, 0.0, 0.05, 0.0, 0.02, 0.04)
OTHERS = (0.0, 0.03, 0.0, 0.02, 0.02, 0.0)


def in_exposures(rng, in_fields):
    """Amplitudes in the exposures of each field, which differ a little."""
    return np.repeat(in_fields, 3) * rng.uniform(0.9, 1.1, 18)


def maps(rng, amplitudes=(), shape=BAND):
    noise = rng.normal(0, NOISE, (18, *SHAPE))
    return noise + (np.asarray(amplitudes)[:, None, None] * shape if len(amplitudes) else 0)


def find(light, number="auto", fields=FIELDS):
    return components.find(light, np.full(light.shape, NOISE**2), fields, number)


def like(one, other):
    """The correlation of two maps."""
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def test_a_band_that_fields_share_is_found_with_its_amplitudes():
    rng = np.random.default_rng(1)
    wanted = in_exposures(rng, IN_FIELDS)
    found = find(maps(rng, wanted))
    assert found.maps.shape == (1, *SHAPE)
    assert found.maps.max() == pytest.approx(1)
    assert found.maps.min() >= 0
    assert like(found.maps[0], BAND) > 0.995
    np.testing.assert_allclose(found.amplitudes[0], wanted, atol=0.003)
    assert found.gains[0] > 0.3
    assert found.typical[0] == pytest.approx(np.sqrt(np.mean(wanted**2)), rel=0.05)


def test_it_is_the_same_whatever_the_order_of_fields_and_exposures():
    rng = np.random.default_rng(2)
    light = maps(rng, in_exposures(rng, IN_FIELDS))
    order = rng.permutation(18)
    place = np.argsort(order)  # of each exposure in the new order
    fields = [[int(place[number]) for number in FIELDS[k]] for k in (4, 1, 5, 0, 3, 2)]
    one, other = find(light), find(light[order], fields=fields)
    np.testing.assert_allclose(other.maps, one.maps, atol=1e-5)
    np.testing.assert_allclose(other.amplitudes, one.amplitudes[:, order], atol=1e-6)
    np.testing.assert_allclose(other.gains, one.gains, atol=0.01)  # left out with other fields


def check_both_are_found(light):
    found = find(light)
    assert len(found.maps) == 2
    for shape in (BAND, OTHER):
        assert max(like(each, shape) for each in found.maps) > 0.98


def test_two_kinds_of_light_are_two_components():
    rng = np.random.default_rng(3)
    first, second = np.repeat((0.03, 0.04, 0.05, 0.0, 0.02, 0.04), 3), np.repeat(OTHERS, 3)
    check_both_are_found(maps(rng, first) + second[:, None, None] * OTHER)


def test_two_kinds_of_light_in_as_many_fields_do_not_hide_each_other():
    rng = np.random.default_rng(3)
    first, second = (
        np.repeat(x, 3) for x in ((0.03, 0, 0.05, 0, 0, 0.04), (0, 0.05, 0, 0.04, 0.03, 0))
    )
    check_both_are_found(maps(rng, first) + second[:, None, None] * OTHER)


@pytest.mark.parametrize("seed", range(2))
def test_noise_alone_has_no_component(seed):
    found = find(maps(np.random.default_rng(seed)))
    assert found.maps.shape == (0, *SHAPE)
    assert found.amplitudes.shape == (0, 18)
    assert len(found.gains) == len(found.typical) == 0


@pytest.mark.parametrize("field", [0, 3])
def test_light_of_one_field_alone_is_no_component(field):
    rng = np.random.default_rng(4)
    own = np.zeros(18)
    own[FIELDS[field]] = 0.1
    halo = np.exp(-0.5 * (np.hypot(Y - 0.1, X) / 0.15) ** 2)
    assert len(find(maps(rng, own, halo if field else BAND)).maps) == 0


def test_a_galaxy_in_one_field_does_not_change_the_band_of_the_others():
    rng = np.random.default_rng(5)
    wanted = in_exposures(rng, IN_FIELDS)
    light = maps(rng, wanted)
    light[FIELDS[1]] += 0.2 * np.exp(-0.5 * (np.hypot(Y + 0.2, X - 0.2) / 0.1) ** 2)
    found = find(light)
    assert len(found.maps) == 1
    assert like(found.maps[0], BAND) > 0.99
    np.testing.assert_allclose(found.amplitudes[0], wanted, atol=0.004)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_number_that_is_given_is_the_number_that_is_found(number):
    rng = np.random.default_rng(6)
    for light in (maps(rng, in_exposures(rng, IN_FIELDS)), maps(rng)):
        found = find(light, number)
        assert found.maps.shape == (number, *SHAPE)
        assert found.amplitudes.shape == (number, 18)
        assert len(found.gains) == number
        assert (found.amplitudes >= 0).all()
        assert np.isfinite(found.maps).all()


def test_boxes_where_nothing_is_known_tell_nothing():
    """Each field has a source of its own, beyond which nothing is known."""
    rng = np.random.default_rng(7)
    wanted = in_exposures(rng, IN_FIELDS)
    light, variance = maps(rng, wanted), np.full((18, *SHAPE), NOISE**2)
    for number, field in enumerate(FIELDS):
        hidden = np.s_[field, 2 * number : 2 * number + 4, 3:7]
        light[hidden], variance[hidden] = 0.0, np.inf
    found = components.find(light, variance, FIELDS, "auto")
    assert len(found.maps) == 1
    assert like(found.maps[0], BAND) > 0.98
    np.testing.assert_allclose(found.amplitudes[0], wanted, atol=0.004)


@given(amplitude=st.floats(0, 1), seed=st.integers(0, 2**32 - 1), power=st.integers(-6, 6))
@settings(max_examples=30)
def test_the_amplitude_of_a_shape_is_never_negative_and_goes_with_the_light(amplitude, seed, power):
    factor = 2.0**power  # which rounds nothing: at a threshold a last bit decides
    rng = np.random.default_rng(seed)
    light = (amplitude * BAND + rng.normal(0, NOISE, SHAPE)).reshape(1, -1)
    variance = np.full(light.shape, NOISE**2)
    found, weight = components.amplitudes_of(light, variance, BAND.ravel())
    assert found[0] >= 0
    assert found[0] == pytest.approx(amplitude, abs=5 * NOISE + 0.01 * amplitude)
    assert (weight >= 0).all()
    scaled, _ = components.amplitudes_of(factor * light, factor**2 * variance, BAND.ravel())
    assert scaled[0] == pytest.approx(factor * found[0], rel=1e-6, abs=1e-12)


def test_exposures_with_a_band_give_a_background_with_that_component(tmp_path):
    """Its amplitudes are large in the fields that have the band, and only there."""
    mirror = sky.mirror()
    seen = sky.exposures(np.random.default_rng(8), mirror, extra=0.05, fields=9)
    made = sky.combined(tmp_path, seen, refinements=2)
    found = made.background.components
    y, x = np.indices(mirror.shape) / len(mirror)
    band = np.exp(-0.5 * ((y - 0.6 + 0.2 * x) / 0.08) ** 2)
    rows, columns = found.maps.shape[1:]
    boxes = band.reshape(rows, len(band) // rows, columns, -1).mean(axis=(1, 3))
    assert like(found.maps[0], boxes) > 0.9
    with_band = np.array([int(member.name[2]) % 3 == 0 for member in made.members])
    assert found.amplitudes[0][with_band].min() > 2 * found.amplitudes[0][~with_band].max()


# ---- files


def made_with(found):
    image = np.ones((104, 104), np.float32)
    number = image.astype(np.int16)
    rows = [{"productFilename": f"jw{k}_rate.fits"} for k in range(3)]
    table = small.table(*rows)
    return Background(image, 0.01 * image, number, image < 0, number, table, components=found)


def check_same(one, other):
    np.testing.assert_array_equal(one.maps, other.maps)
    np.testing.assert_array_equal(one.amplitudes, other.amplitudes)
    np.testing.assert_array_equal(one.gains, other.gains)
    assert one.maps.dtype == np.float32


def some(number, exposures=3):
    rng = np.random.default_rng(number)
    maps = rng.random((number, 4, 6)).astype(np.float32)
    return Components(maps, rng.random((number, exposures)), rng.random(number))


@pytest.mark.parametrize("exposures", [1, 3])
@pytest.mark.parametrize("number", [1, 2])
def test_components_come_back_from_the_combined_background(tmp_path, number, exposures):
    found, path = some(number, exposures), tmp_path / "background.fits"
    combined_background.write(path, made_with(found), settings={})
    check_same(combined_background.read(path).components, found)
    with fits.open(path) as hdus:
        assert "in the order of EXPOSURES" in str(hdus["COMPONENTS"].header["COMMENT"])
        names = [f"scattered light {k + 1}" for k in range(number)]
        assert list(hdus["COMPONENTS"].data["name"]) == names


@pytest.mark.parametrize("number", [1, 2])
def test_components_come_back_from_the_finished_file(tmp_path, number):
    found, path = some(number), tmp_path / "finished.fits"
    dq = np.zeros((104, 104), dtype=np.uint32)
    header = fits.Header({"FIXFLAT": True, "QDATE": "2026-01-02T03:04:05"})
    reference_file.write(path, made_with(found), dq, header, {})
    check_same(reference_file.read(path)[0].components, found)
    check_same(any_background.read(path).components, found)
    assert fits.getval(path, "FIXFLAT")


def test_without_components_there_is_no_extension(tmp_path):
    path = tmp_path / "background.fits"
    combined_background.write(path, made_with(Components.none()), settings={})
    with fits.open(path) as hdus:
        assert "COMPONENTS" not in hdus
    assert len(combined_background.read(path).components.maps) == 0
    assert len(combined_background.read(path).components.typical) == 0
