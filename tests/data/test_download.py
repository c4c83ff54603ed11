"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from atoll.data import load
from atoll.data.sources import download, idx
from atoll.data.sources.download import fetch
from tests.data.idx_files import write_set
from tests.data.support import refuses


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder quietly; a file whose name holds "broken" ends after half of the bytes announced."""

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        if "broken" not in self.path:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """(address, folder served). Downloads go to another folder of the test's own."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ATOLL_CACHE", str(tmp_path / "cache"))
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}", folder
    served.shutdown()
    thread.join()
    served.server_close()


def checksum(file: Path, algorithm: str = "md5") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, file.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_arrives_whole(server, tmp_path, algorithm):
    address, folder = server
    (folder / "a.bin").write_bytes(bytes(range(256)) * 1000)
    fetch(address, {"a.bin": checksum(folder / "a.bin", algorithm)}, tmp_path / "here", "")
    assert (tmp_path / "here" / "a.bin").read_bytes() == (folder / "a.bin").read_bytes()
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["a.bin"]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    address, _ = server
    (tmp_path / "a.bin").write_text("mine")
    fetch(address, {"a.bin": "md5:0"}, tmp_path, "")
    assert (tmp_path / "a.bin").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong.bin", ["md5 checksum", "not 0123", "not the right file"]),
        ("broken.bin", ["broke off after 500 of 1,000 bytes"]),
        ("missing.bin", ["404"]),
    ],
)
def test_what_goes_wrong_leaves_nothing_behind(server, tmp_path, name, words):
    address, folder = server
    for file in ("wrong.bin", "broken.bin"):
        (folder / file).write_bytes(b"x" * 1000)
    with refuses(f"{address}/{name}", "could not be downloaded", *words, "Do it yourself."):
        fetch(address, {name: "md5:0123"}, tmp_path / "here", "Do it yourself.")
    assert list((tmp_path / "here").iterdir()) == []


def test_interrupting_leaves_nothing_behind(server, tmp_path, monkeypatch):
    address, folder = server
    (folder / "a.bin").write_bytes(b"x" * 1000)
    real = download.urlopen

    def interrupted(url, timeout):
        response = real(url, timeout=timeout)
        first, response.read = response.read, None

        def read(size):
            if response.read is not read or getattr(read, "called", False):
                raise KeyboardInterrupt
            read.called = True
            return first(10)

        response.read = read
        return response

    monkeypatch.setattr(download, "urlopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(address, {"a.bin": "md5:0"}, tmp_path / "here", "")
    assert list((tmp_path / "here").iterdir()) == []


def test_no_network_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with refuses("Connection refused", "Get the files."):
        fetch(f"http://127.0.0.1:{port}", {"a.bin": "md5:0"}, tmp_path, "Get the files.")
    with refuses("unknown url type", "Get the files."):
        fetch("nonsense", {"a.bin": "md5:0"}, tmp_path, "Get the files.")


def test_fashion_mnist_is_downloaded_once(server, tmp_path, monkeypatch):
    address, folder = server
    write_set(folder)
    monkeypatch.setattr(idx, "FASHION_FOLDER", tmp_path / "not installed")
    monkeypatch.setattr(idx, "FASHION_FILES", {file.name: checksum(file) for file in folder.iterdir()})
    first = load("fashion-mnist", mirror=address, clients=4)
    assert len(list((tmp_path / "cache" / "fashion-mnist").iterdir())) == 4
    again = load("fashion-mnist", mirror="http://127.0.0.1:9/", clients=4)
    assert (first.x == again.x).all()


def test_a_wrong_download_tells_how_else_to_get_the_files(server, tmp_path, monkeypatch):
    address, folder = server
    write_set(folder)
    monkeypatch.setattr(idx, "FASHION_FOLDER", tmp_path / "not installed")
    with refuses("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "apt install dataset-fashion-mnist", "path=FOLDER"):
        load("fashion-mnist", mirror=address)
    with refuses("f68b3c2dcbeaaa9fbdd348bbdeb94873", "path=FOLDER"):
        load("mnist", mirror=address)
