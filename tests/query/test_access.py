"""Data that are not public, with a token that is never written anywhere."""

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from demo.server import Fault
from tests.demo.test_server import keyword_row, rate_name, tiny_archive
from wfssbkg.errors import ConfigError, StepError
from wfssbkg.query import access

TOKEN = "0123456789abcdef-very-secret"


@pytest.fixture
def exclusive(user, archive):
    """An archive of a public exposure, two that are not, and one that is out of date."""
    rows = [archive.expose(1), archive.expose(2, isRestricted=True)]
    rows += [archive.expose(3, isRestricted="true", publicReleaseDate_mjd=99999.0)]
    rows += [archive.expose(4, isRestricted=True, isStale=True)]
    archive.fill(rows)
    archive.server.token = TOKEN
    user.configure(gratings=["GR150C"], gaia_g_limit=None)
    return user


def status(of_user):
    return list(of_user.table()["status"])


def is_written(folder, secret=TOKEN):
    """The files of a folder that contain a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("token", [None, "", "  "])
def test_without_a_token_what_is_not_public_is_excluded(exclusive, archive, token):
    output, _ = exclusive.run(token=token)
    assert status(exclusive) == ["accepted", "excluded", "excluded", "excluded"]
    assert "3 excluded: not public" in output
    assert archive.server.counts["whoami"] == archive.server.counts["token"] == 0


@pytest.mark.parametrize(
    "options",
    [(), ("--quiet", "--log", "run.log"), ("--verbose", "--log", "run.log"), ("--dry-run",)],
)
def test_with_a_token_it_is_downloaded_and_the_token_is_nowhere(
    exclusive, archive, options
):  # fmt: skip
    output, errors = exclusive.run(*options, token=TOKEN)
    assert TOKEN not in output + errors
    assert is_written(exclusive.home) == []
    assert archive.server.counts["whoami"] == 1
    if "--quiet" not in options:
        assert "2 exposures are not public: MAST_API_TOKEN is used to download them" in output
        assert "1 excluded: superseded in the archive" in output
    if "--dry-run" in options:
        assert "to download: 3 exposures" in output
        return
    assert status(exclusive) == ["accepted"] * 3 + ["excluded"]
    for number in (1, 2, 3):
        name = rate_name(number)
        assert exclusive.folder().rate(name).read_bytes() == (archive.folder / name).read_bytes()
    # Later, in a shell without it.
    exclusive.run()
    assert status(exclusive) == ["accepted", "excluded", "excluded", "excluded"]


def test_a_token_that_mast_does_not_accept_is_one_message(exclusive, archive):
    output, errors = exclusive.run(token="another-secret", status=1)
    assert len(errors.splitlines()) == 1
    assert f"MAST at {archive.url} does not accept the token in MAST_API_TOKEN" in errors
    assert "https://auth.mast.stsci.edu/tokens" in errors
    assert "another-secret" not in output + errors
    assert archive.server.counts["whoami"] == 1
    assert not exclusive.folder().path.exists()


def test_a_token_that_is_none_is_wrong_use(exclusive, archive):
    output, errors = exclusive.run(token="very; secret", status=2)
    assert "the environment variable MAST_API_TOKEN is no token of MAST" in errors
    assert "secret" not in output + errors
    assert archive.server.counts["whoami"] == 0


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_whatever_is_in_the_environment_is_a_token_or_refused_without_quoting_it(found):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(access.VARIABLE, f"q{found}q")
        try:
            assert access.token() == f"q{found}q"
            assert set(found) <= set(string.ascii_letters + string.digits + "_.~+/=-")
        except ConfigError as error:
            assert f"q{found}q" not in str(error)


def test_what_the_token_gives_no_access_to_is_excluded_and_tried_again(
    exclusive, archive
):  # fmt: skip
    archive.server.faults.append(Fault(f"GET {rate_name(3)}", "401"))
    output, _ = exclusive.run(token=TOKEN)
    assert status(exclusive) == ["accepted", "accepted", "excluded", "excluded"]
    reason = "not public: MAST_API_TOKEN gives no access to it (HTTP 401 Unauthorized)"
    assert exclusive.table()["reason"][2] == reason
    assert "could not be downloaded" not in output
    exclusive.run(token=TOKEN)
    assert status(exclusive) == ["accepted"] * 3 + ["excluded"]


@pytest.mark.parametrize("kind", ["500", "html", "empty", "refused", "malformed"])
def test_a_fault_of_the_login_passes(exclusive, archive, kind):
    archive.server.faults.append(Fault("whoami", kind))
    exclusive.run(token=TOKEN)
    assert status(exclusive) == ["accepted"] * 3 + ["excluded"]


def test_a_lasting_fault_of_the_login_is_one_message(exclusive, archive):
    archive.server.faults.append(Fault("whoami", "404", times=9))
    _, errors = exclusive.run(token=TOKEN, status=1)
    (line,) = errors.splitlines()
    assert "does not tell who MAST_API_TOKEN is of: HTTP 404 Not Found" in line
    assert TOKEN not in line


def test_no_other_server_gets_the_token(exclusive, archive, tmp_path):
    """Neither Gaia, nor one that MAST sends a download on to."""
    with (
        tiny_archive(tmp_path / "gaia", count=0) as gaia,
        tiny_archive(tmp_path / "bucket", count=1) as bucket,
    ):
        archive.fill([keyword_row(rate_name(1), isRestricted=True)])
        archive.server.elsewhere = bucket.url.replace("127.0.0.1", "localhost")
        exclusive.configure(gratings=["GR150C"], gaia_url=gaia.url)
        exclusive.run(token=TOKEN)
        assert status(exclusive) == ["accepted"]
        assert bucket.server.counts["download"] == 1
        assert gaia.server.counts["gaia job"] == 2
        assert gaia.server.counts["token"] == bucket.server.counts["token"] == 0
        assert archive.server.counts["token"] > 2


def test_a_token_in_the_config_is_refused_without_quoting_it(exclusive):
    path = exclusive.home / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["query"]["token"] = TOKEN
    path.write_text(yaml.safe_dump(settings))
    output, errors = exclusive.run(status=2)
    assert "unknown key 'query.token'" in errors
    assert TOKEN not in output + errors


def test_the_check_says_so_itself(tmp_path):
    with tiny_archive(tmp_path / "archive", count=0) as tiny:
        tiny.server.token = TOKEN
        access.check(tiny.query(), TOKEN)
        with pytest.raises(StepError, match="does not accept"):
            access.check(tiny.query(), TOKEN[:-1])
