"""What becomes of the exposures of a combination."""

import pytest

from tests import small
from wfssbkg import pipeline
from wfssbkg.files import exposure_table
from wfssbkg.mask import combination
from wfssbkg.run.command_line import Run


@pytest.mark.parametrize("failing", [["a"], ["a", "b"]])
def test_every_exposure_that_the_pipeline_fails_on_has_failed(failing, tmp_path, monkeypatch):
    """Also if it fails on all of them, so that none has a second try."""

    def mask(rate, *others):
        if rate.name in failing:
            raise pipeline.PipelineError("no flat field")
        return 0.1

    monkeypatch.setattr(combination, "mask_exposure", mask)
    place, table = small.folder(tmp_path), small.table(*({"productFilename": x} for x in "ab"))
    run = Run(small.settings(), [place], False, None, small.WORKERS)
    number = combination.mask_all(run, place, table, [place.rate(name) for name in "ab"])
    assert number == len(failing)
    assert exposure_table.fates(table)[exposure_table.FAILED] == failing
    assert exposure_table.reason(table, "a") == "no flat field"
