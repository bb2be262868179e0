"""Trying again, and what a server says about when."""

import email.utils
import errno
import http.client
import time
from datetime import UTC, datetime

import pytest
import requests
from pyvo.dal import DALQueryError

from wfssbkg import config
from wfssbkg.errors import StepError
from wfssbkg.query import network

DEFAULTS = config.read(config.DEFAULTS).query


def test_pauses_grow_and_end_at_the_timeout():
    pauses = []

    def fail():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    query = DEFAULTS.model_copy(update={"attempts": 6, "timeout": 5.0})
    with pytest.raises(StepError, match=r"Connection reset by peer \(after 6 tries\)"):
        network.with_retries(fail, query, pause=pauses.append)
    assert pauses == [1, 2, 4, 5, 5]


def test_a_date_as_retry_after_is_understood():
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert network.ServerError(503, "", date).retry_after == pytest.approx(30, abs=2)
    for value in (None, "", "soon", "-5", "nan", "inf"):
        assert network.ServerError(503, "", value).retry_after == 0


def test_ctrl_c_is_not_tried_again():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network.with_retries(stop, DEFAULTS)


def test_no_other_try_after_a_pause_that_was_cut_short():
    tries = []

    def fail():
        tries.append(1)
        raise EOFError

    with pytest.raises(StepError):
        network.with_retries(fail, DEFAULTS, pause=lambda seconds: True)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StepError("too short"), "too short"),
        (network.ServerError(503, "Busy", None), "HTTP 503 Busy"),
        (requests.ReadTimeout("urllib3's words"), "no answer within 7 s"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "no answer within 7 s"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (http.client.IncompleteRead(b""), "the connection broke off"),
        (requests.JSONDecodeError("no value", "<html>", 0), "the answer makes no sense (no value"),
        (DALQueryError("unknown table\n..."), "refused (unknown table)"),
        (KeyError("data"), "the answer makes no sense (KeyError: 'data')"),
    ],
)
def test_errors_in_words(error, words):
    assert network.in_words(error, 7.0).startswith(words)
    outer = RuntimeError("outer")
    outer.__cause__ = error
    if isinstance(error, TimeoutError | ConnectionError | http.client.HTTPException):
        assert network.in_words(outer, 7.0) == words


@pytest.fixture
def far_from_greenwich(monkeypatch):
    """Local time is twelve hours ahead of UTC."""
    monkeypatch.setenv("TZ", "NZST-12")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_date_of_a_query_is_in_utc(far_from_greenwich):
    assert datetime.now().astimezone().utcoffset().total_seconds() == 12 * 3600
    told = datetime.fromisoformat(network.query_date()).replace(tzinfo=UTC)
    assert abs((told - datetime.now(UTC)).total_seconds()) < 60
