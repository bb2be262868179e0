"""Temporary files: others are whole or not there, and only our own are removed."""

import pytest

from wfssbkg.files import lock
from wfssbkg.files.temporary import remove_unfinished, replacing, unfinished

# Names of files of other programs, which may be in the same folder.
OF_THE_USER = (
    ".eslintrc.json", ".coverage.host.1", ".htaccess.bak", ".0123abcd.notes.txt", ".wfssbkg.yaml",
    ".wfssbkg.old.fits", "wfssbkg.0123abcd.fits",
)  # fmt: skip


def test_replacing_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_makes_the_folder_and_the_file(tmp_path):
    path = tmp_path / "new" / "a.fits"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_files_of_the_user_stay(tmp_path):
    """Names that look like those of our temporary files are not removed."""
    for name in OF_THE_USER:
        (tmp_path / name).write_text("precious")
    (tmp_path / ".packages.d").mkdir()
    (tmp_path / ".wfssbkg.0123abcd.folder").mkdir()
    (tmp_path / ".wfssbkg.0123abcd.table.fits").touch()
    with lock.hold(tmp_path / ".lock"):
        pass
    remove_unfinished(tmp_path)
    kept = {*OF_THE_USER, ".packages.d", ".wfssbkg.0123abcd.folder"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_file_that_is_being_written_is_ours(tmp_path):
    with replacing(tmp_path / "a.fits") as temporary:
        temporary.touch()
        assert list(unfinished(tmp_path)) == list(unfinished(tmp_path, "a.fits")) == [temporary]
        assert not list(unfinished(tmp_path, "b.fits"))
