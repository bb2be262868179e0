"""Downloads from the bucket in the cloud: moto's server, behind boto3 and the demo's MAST."""

import socket

import boto3
import pytest
from moto.server import ThreadedMotoServer

from demo.server import Fault
from tests.demo.test_server import rate_name, tiny_archive
from tests.script_server import ROOT, python
from wfssbkg.layout import Combination, Folder
from wfssbkg.query import archive, cloud, download, network, selection

GR150C = Combination("GR150C", "F115W")
NAMES = [rate_name(number) for number in (1, 2, 3)]

pytestmark = [
    pytest.mark.filterwarnings("ignore:File may have been truncated"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow"),
]


@pytest.fixture(scope="module")
def address():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(address, monkeypatch):
    """An empty public bucket, for anybody who asks as AWS lets one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
    owner = {"aws_access_key_id": "owner", "aws_secret_access_key": "secret"}
    made = boto3.resource("s3", region_name="us-east-1", **owner).Bucket(cloud.BUCKET)
    made.create(ACL="public-read")
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE", 0.01)
    with tiny_archive(tmp_path / "archive") as made:
        yield made


def key(name):
    return f"jwst/public/{name[:7]}/{name[:13]}/{name}"


def fill(bucket, tiny, names=NAMES):
    for name in names:
        content = (tiny.folder / name).read_bytes()
        bucket.put_object(Key=key(name), Body=content, ACL="public-read")


def fetch(tiny, tmp_path, **options):
    """Download what is wanted; returns what was done, and where it lies."""
    folder, query = (
        Folder(GR150C, tmp_path / "work", tmp_path / "out"),
        tiny.query(cloud=True, **options),
    )
    table = selection.select(archive.search(query, [GR150C]), GR150C, query)
    return download.download(table, folder, query), folder, table


def check_same(folder, tiny):
    assert sorted(path.name for path in folder.path.iterdir()) == NAMES
    for name in NAMES:
        assert folder.rate(name).read_bytes() == (tiny.folder / name).read_bytes()


def test_files_are_those_of_the_bucket(bucket, tiny, tmp_path, capsys):
    fill(bucket, tiny)
    done, folder, _ = fetch(tiny, tmp_path)
    assert (done.downloaded, done.failed) == (3, 0)
    check_same(folder, tiny)
    assert tiny.server.counts["download"] == 0
    assert "3 of 3 files are from the public bucket" in capsys.readouterr().out


def test_what_is_missing_or_damaged_there_comes_from_mast(bucket, tiny, tmp_path, capsys):
    fill(bucket, tiny, NAMES[:2])
    content = (tiny.folder / NAMES[1]).read_bytes()[:-3000]
    bucket.put_object(Key=key(NAMES[1]), Body=content, ACL="public-read")
    done, folder, _ = fetch(tiny, tmp_path, attempts=1)
    assert (done.downloaded, done.failed) == (3, 0)
    check_same(folder, tiny)
    assert tiny.server.counts["download"] == 2
    assert "1 of 3 files are from the public bucket" in capsys.readouterr().out


def test_a_bucket_that_is_out_of_reach_costs_nothing_but_a_try(tiny, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # where nothing listens any more
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    done, folder, _ = fetch(tiny, tmp_path)
    assert (done.downloaded, done.failed) == (3, 0)
    check_same(folder, tiny)


def test_if_mast_cannot_tell_the_paths_it_is_said(bucket, tiny, tmp_path, capsys):
    fill(bucket, tiny)
    tiny.server.faults.append(Fault("paths", "500", times=9))
    done, folder, _ = fetch(tiny, tmp_path, attempts=2)
    assert done.downloaded == 3
    check_same(folder, tiny)
    assert "MAST does not tell where files are in the cloud" in "".join(capsys.readouterr())


def test_a_file_that_is_nowhere_fails_in_words(bucket, tiny, tmp_path):
    fill(bucket, tiny, NAMES[:2])
    (tiny.folder / NAMES[2]).unlink()
    done, _, table = fetch(tiny, tmp_path, attempts=2)
    assert (done.downloaded, done.failed) == (2, 1)
    (row,) = (row for row in table if row["productFilename"] == NAMES[2])
    assert "download failed: HTTP 404" in row["reason"]


def test_many_paths_are_asked_for_in_parts(tiny):
    uris = [f"mast:JWST/product/{rate_name(number)}" for number in range(1, 121)]
    found = cloud.keys(uris, tiny.query())
    assert found == dict(zip(uris[:3], map(key, NAMES), strict=True))
    assert tiny.server.counts["paths"] == 3


def test_without_boto3_it_is_told_how_to_install_it(tmp_path):
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "from wfssbkg import config\nfrom wfssbkg.errors import ConfigError\n"
        "from wfssbkg.query import cloud\n"
        "try:\n    cloud.client(config.read(config.DEFAULTS).query)\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    done = python("-c", code, cwd=ROOT)
    assert "pip install boto3" in done.stdout
