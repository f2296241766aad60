from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lit_optim.data.download import download
from lit_optim.errors import DataError

CONTENT = b"nine bytes"
MD5 = hashlib.md5(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/"  # the discard port, where nothing listens


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which this machine serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_into_a_folder_that_it_makes(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, url = served
    (folder / "file.gz").write_bytes(CONTENT)
    path = download("file.gz", MD5, (url,), tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "file.gz"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("first", ["unreachable", "missing", "damaged"])
def test_the_second_mirror_is_asked_when_the_first_fails(tmp_path: Path, served: tuple[Path, str], first: str) -> None:
    folder, url = served
    (folder / "file.gz").write_bytes(CONTENT)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "file.gz").write_bytes(CONTENT[:-1])
    mirrors = {"unreachable": NOWHERE, "missing": f"{url}missing/", "damaged": f"{url}damaged/"}
    assert download("file.gz", MD5, (mirrors[first], url), tmp_path).read_bytes() == CONTENT


def test_a_file_with_another_checksum_is_thrown_away(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, url = served
    (folder / "file.gz").write_bytes(b"an intruder")
    with pytest.raises(DataError, match="hash of downloaded file") as refusal:
        download("file.gz", MD5, (url,), tmp_path / "data")
    assert url in str(refusal.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_without_a_connection_it_says_what_to_fetch_from_where_to_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        download("file.gz", MD5, (NOWHERE, f"{NOWHERE}second/"), tmp_path)
    (mistake,) = refusal.value.mistakes
    assert mistake.key == "data.root"
    assert mistake.problem == f"file.gz is not in {tmp_path}, and no mirror gave it"
    assert mistake.given is not None
    assert f"{NOWHERE}file.gz: " in mistake.given
    assert f"{NOWHERE}second/file.gz: " in mistake.given
    assert mistake.remedy == (f"fetch file.gz by hand into {tmp_path}, or point data.root to a folder that holds it")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, where a folder is needed")
    with pytest.raises(DataError, match=r"file\.gz must be downloaded, and its folder can't be written") as refusal:
        download("file.gz", MD5, (), tmp_path / "data" / "raw")
    (mistake,) = refusal.value.mistakes
    assert mistake.key == "data.root"
    assert mistake.remedy is not None
    assert mistake.remedy.startswith("point data.root to a folder that you may write, or fetch file.gz by hand")
