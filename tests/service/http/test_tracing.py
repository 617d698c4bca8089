"""Traces of a real service, as a real OTLP receiver gets them."""

import gzip
import importlib.util
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sfsc_service.errors import StartError
from sfsc_service.http.app import create_app
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import JPEG, running

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STEPS = ["decode", "queue", "compute"]


class Receiver(ThreadingHTTPServer):
    """Keeps the spans that are posted to /v1/traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def children(self, parent: Span) -> list[Span]:
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(
            gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        )
        assert self.path == "/v1/traces"
        for resource in request.resource_spans:
            self.server.resource = values(resource.resource)
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def values(attributed: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in attributed.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_every_request_is_a_span_and_its_steps_are_spans_inside_of_it(
    settings: Settings, receiver: Receiver
) -> None:
    began = time.time_ns()
    with running(settings.model_copy(update={"otlp_url": receiver.url + "/"})) as live:
        http = live.http
        traced = JPEG | {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        http.post("/search", params={"width": "0.5"}, content=draw_image(0), headers=traced).raise_for_status()
        live.post_image("/embed", draw_image(1), width="0.25").raise_for_status()
        live.put_image("/items/a", draw_image(1)).raise_for_status()
        live.http.post(
            "/items", files=[("image", (f"{n}.jpg", draw_image(n))) for n in range(3)]
        ).raise_for_status()
        assert live.post_image("/embed", draw_image(1), width="7").status_code == 422
        live.service.embedder.embed = None
        assert live.post_image("/embed", draw_image(1)).status_code == 500
    ended = time.time_ns()

    assert receiver.resource["service.name"] == "sfsc"
    requests = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER]
    search, embed, put, bulk, refused, failed = (span for span in requests if "readyz" not in span.name)
    names = ["POST /search", "POST /embed", "PUT /items/{id}", "POST /items", "POST /embed", "POST /embed"]
    assert [span.name for span in (search, embed, put, bulk, refused, failed)] == names
    assert (search.trace_id.hex(), search.parent_span_id.hex()) == (TRACE, CALLER)
    assert values(search)["http.route"] == "/search"
    assert values(embed)["http.response.status_code"] == "200"
    assert [values(span)["http.response.status_code"] for span in (refused, failed)] == ["422", "500"]
    codes = [span.status.code for span in (embed, refused, failed)]
    assert codes == [Status.STATUS_CODE_UNSET, Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR]

    assert [span.name for span in receiver.children(search)] == [*STEPS, "search"]
    assert [span.name for span in receiver.children(embed)] == STEPS
    assert [span.name for span in receiver.children(put)] == [*STEPS, "commit"]
    assert [span.name for span in receiver.children(refused)] == []
    of_bulk = [span.name for span in receiver.children(bulk)]
    assert [of_bulk.count(name) for name in STEPS] == [3, 3, 3]
    assert "commit" in of_bulk
    (compute,) = (span for span in receiver.children(search) if span.name == "compute")
    assert values(compute) == {"sfsc.width": "0.5"}
    for request in requests:
        assert began <= request.start_time_unix_nano <= request.end_time_unix_nano <= ended
        for step in receiver.children(request):
            assert step.trace_id == request.trace_id
            assert step.start_time_unix_nano <= step.end_time_unix_nano


def test_no_span_has_the_data_of_a_caller(settings: Settings, receiver: Receiver) -> None:
    secret = "tell nobody"
    with running(settings.model_copy(update={"otlp_url": receiver.url})) as live:
        options = {"width": "0.5", "metadata": f'{{"name": "{secret}"}}'}
        live.http.put("/items/a", params=options, content=draw_image(1), headers=JPEG).raise_for_status()
        options = {"k": "1", "filter": f'{{"name": "{secret}"}}', "token": secret}
        assert live.http.post("/search", params=options, content=draw_image(1), headers=JPEG).status_code == 422
    requests = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER]
    put, search = (span for span in requests if "readyz" not in span.name)
    assert values(put)["url.query"] == "width=0.5&metadata=REDACTED"
    assert values(search)["url.query"] == "k=1&filter=REDACTED&token=REDACTED"
    for span in receiver.spans:
        assert not [value for value in values(span).values() if "nobody" in value]


def test_a_receiver_that_is_not_there_costs_no_request(settings: Settings, receiver: Receiver) -> None:
    receiver.server_close()
    with running(settings.model_copy(update={"otlp_url": receiver.url})) as live:
        live.post_image("/embed", draw_image(1), width="0.25").raise_for_status()


def test_without_the_extra_it_is_refused_in_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StartError, match=r"otlp_url: needs the extra otel"):
        create_app(settings.model_copy(update={"otlp_url": "http://127.0.0.1:1"}))


@pytest.mark.parametrize("url", ["localhost:4318", "grpc://127.0.0.1:4317", "http://"])
def test_a_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="otlp_url"):
        Settings(otlp_url=url)
