"""The public bucket in the cloud (AWS) that has the rate files of MAST as well."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from wfssbkg.config import Query
from wfssbkg.errors import ConfigError
from wfssbkg.query import network

BUCKET = "stpubdata"  # as in astroquery.mast.cloud
_PATH = "/api/v0.1/path_lookup/"  # of MAST's service that knows where files are, see query.mast_url
_MOST = 50  # files in a request; longer addresses are refused (astroquery.mast.utils)


def client(query: Query) -> Any:
    """
    Connect to the bucket, without an account.

    Parameters
    ----------
    query : `~wfssbkg.config.Query`
        With `timeout`.

    Returns
    -------
    boto3's client of S3
        Other addresses than that of AWS are taken from AWS_ENDPOINT_URL_S3 in the environment.

    Raises
    ------
    ConfigError
        If boto3 is not installed.
    """
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.client import Config
    except ImportError:
        raise ConfigError(
            "query.cloud: true needs boto3, which is not installed. Install it with: "
            "pip install boto3, or set query.cloud to false"
        ) from None
    settings = Config(
        signature_version=UNSIGNED,
        connect_timeout=query.timeout,
        read_timeout=query.timeout,
        retries={"total_max_attempts": 1},
    )
    return boto3.client("s3", region_name="us-east-1", config=settings)


def keys(uris: Sequence[str], query: Query) -> dict[str, str]:
    """
    Ask MAST where files are in the bucket.

    Parameters
    ----------
    uris : list of str
        Of MAST's products.
    query : `~wfssbkg.config.Query`
        With `mast_url`, `attempts` and `timeout`.

    Returns
    -------
    dict
        URI to key, of the files that MAST knows a path of.

    Raises
    ------
    StepError
        If MAST does not tell.
    """
    url, found = query.mast_url.rstrip("/") + _PATH, {}

    def ask(some: Sequence[str]) -> dict[str, str]:
        with network.Session(url, query.timeout) as session:
            answer = session.get(url, params={"uri": some}).json()
        paths = {uri: answer[uri]["path"] for uri in some if uri in answer}
        return {uri: path.lstrip("/") for uri, path in paths.items() if path}

    for first in range(0, len(uris), _MOST):
        found |= network.with_retries(lambda k=first: ask(uris[k : k + _MOST]), query)
    return found


def blocks(bucket: Any, key: str, size: int) -> Iterator[bytes]:
    """The content of a file in the bucket, in blocks of so many bytes; raises botocore's errors."""
    with closing(bucket.get_object(Bucket=BUCKET, Key=key)["Body"]) as body:
        yield from body.iter_chunks(size)
