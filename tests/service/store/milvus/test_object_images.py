"""An object store that is missing, away, slow or does not let us in: bounded, in one sentence, without secrets."""

import importlib.util
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from http.server import BaseHTTPRequestHandler
from importlib.machinery import ModuleSpec
from pathlib import Path
from socketserver import TCPServer

import fsspec
import pytest

from live_service import free_port
from sfsc_service.store.errors import OpenRefusedError, StoreFailedError
from sfsc_service.store.milvus.images import digest_of
from sfsc_service.store.milvus.object_images import ObjectImages
from tests.service.faulty import until
from tests.service.store.object_store import (
    BUCKET,
    KEY,
    SECRET,
    S3Server,
    aws_settings,
    impatient,
    in_environment,
    need_s3,
    s3_server,
)

URL = f"s3://{BUCKET}/images"
DATA = b"an image"
DIGEST = digest_of(DATA)
PATIENCE_S = 20.0
eventually = partial(until, seconds=PATIENCE_S)


@pytest.fixture(autouse=True)
def needed() -> None:
    need_s3()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    need_s3()
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as found:
        yield found


@contextmanager
def listening() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Refusing(BaseHTTPRequestHandler):
    """Denies everything, as S3 does."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def refusing() -> Iterator[str]:
    with TCPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("place", "words"),
    [(listening, "no answer in time"), (refusing, "access is denied"), (nobody, "no connection")],
    ids=["hangs", "denies", "refuses"],
)
def test_an_object_store_that_cannot_be_used_ends_the_start_in_time(
    place: Callable[[], AbstractContextManager[str]], words: str
) -> None:
    began = time.monotonic()
    with (
        impatient() if place is listening else nullcontext(),
        place() as address,
        in_environment(aws_settings(address)),
        pytest.raises(StoreFailedError, match=f"^image_folder: {URL} cannot be used \\({words}\\)$"),
    ):
        ObjectImages(URL)
    assert time.monotonic() - began < PATIENCE_S


def test_without_credentials_or_a_bucket_the_start_says_so(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_environment(aws_settings(server.address)):
        with pytest.raises(StoreFailedError, match=r"s3://none/images cannot be used \(there is no such bucket\)"):
            ObjectImages("s3://none/images")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(StoreFailedError, match=r"cannot be used \(no credentials\)"):
            ObjectImages(URL)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/images", "gs:// needs a package of fsspec's"),
        ("nothing://bucket/images", "must be a folder or an object store"),
        ("memory://images", "must be a folder or SCHEME://BUCKET/PREFIX of an object store"),
        ("file:///images", "must be a folder or SCHEME://BUCKET/PREFIX of an object store"),
        ("s3://", "must be a folder or SCHEME://BUCKET/PREFIX of an object store"),
    ],
)
def test_what_is_no_object_store_at_hand_is_refused(url: str, message: str) -> None:
    with pytest.raises(OpenRefusedError, match=f"^image_folder: {re.escape(message)}"):
        ObjectImages(url)


def test_without_s3fs_the_start_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> object:
        raise ImportError("Install s3fs to access S3")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec.core, "url_to_fs", without)
        with pytest.raises(OpenRefusedError, match=r"s3:// needs the extra s3: pip install '\.\[s3\]'"):
            ObjectImages(URL)
    find = importlib.util.find_spec

    def without_fsspec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "fsspec" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_fsspec)
    with pytest.raises(OpenRefusedError, match=r"s3:// needs the extra s3: pip install '\.\[s3\]'"):
        ObjectImages(URL)


def test_while_it_hangs_or_is_gone_calls_fail_soon_and_afterwards_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    port = free_port()
    with ExitStack() as first, in_environment(aws_settings(f"http://127.0.0.1:{port}")):
        server = first.enter_context(s3_server(tmp_path / "log", port))
        images = ObjectImages(URL)
        images.write({DIGEST: DATA})
        os.kill(server.pid, signal.SIGSTOP)
        with impatient():
            assert_refused(images)
            assert_fault(images, "unresponsive")
        os.kill(server.pid, signal.SIGCONT)
        eventually(lambda: images.fault() is None)
        assert images.read(DIGEST) == DATA
        first.close()
        with impatient():
            assert_refused(images)
            assert_fault(images, "unresponsive")
        with s3_server(tmp_path / "log", port):  # without its disk: the object is lost, and that is said
            eventually(lambda: images.fault() is None)
            with pytest.raises(FileNotFoundError):
                images.read(DIGEST)
            images.write({DIGEST: DATA})
            assert images.read(DIGEST) == DATA
        images.close()
    for secret in (KEY, SECRET, "AWS4-HMAC-SHA256"):
        assert secret not in caplog.text


def assert_refused(images: ObjectImages) -> None:
    """Many calls at once: each ends, and once one was not answered, the others do so without asking."""
    began, threads = time.monotonic(), threading.active_count()

    def failed(n: int) -> str:
        call = (lambda: images.read(DIGEST)) if n % 2 else (lambda: images.write({DIGEST: DATA}))
        with pytest.raises(StoreFailedError) as error:
            call()
        return str(error.value)

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(failed, range(12)))
    assert any("the object store of the images does not answer" in one for one in said)
    assert time.monotonic() - began < PATIENCE_S
    assert threading.active_count() <= threads


def assert_fault(images: ObjectImages, cause: str) -> None:
    eventually(lambda: (fault := images.fault()) is not None and fault.cause == cause)


def test_a_bucket_that_is_gone_or_may_not_be_written_any_more_is_a_fault(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.store.milvus.object_images._PROBE_EVERY_S", 0.0)
    with in_environment(aws_settings(server.address)):
        images = ObjectImages(URL)
        assert images.fault() is None
        with impatient():
            server.lose_bucket()
            assert_fault(images, "folder_gone")
        with pytest.raises(StoreFailedError, match=r"images cannot be stored .* \(there is no such bucket\)"):
            images.write({DIGEST: DATA})
        server.empty()
        eventually(lambda: images.fault() is None)

        async def denied(*_: object) -> None:
            raise PermissionError("Access Denied")

        monkeypatch.setattr(images._system, "_pipe_file", denied)
        assert_fault(images, "not_writable")
        with pytest.raises(StoreFailedError, match=r"images cannot be stored .* \(access is denied\)"):
            images.write({DIGEST: DATA})
    monkeypatch.undo()
    images.close()
    images.close()  # once more does nothing
