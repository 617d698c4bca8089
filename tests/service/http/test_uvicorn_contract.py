"""What http_protocol.py and connections.py use of uvicorn and httptools, none of which is documented.

A release that changes any of it fails here, by name, before it fails in a way that is hard to understand.
"""

import inspect

import httptools
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

OVERRIDDEN = (
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "on_message_begin",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
)


@pytest.mark.parametrize(
    "name",
    ["pipeline", "cycle", "flow", "scope", "headers", "connections", "timeout_keep_alive_task", "parser", "loop"],
)
def test_the_state_of_a_connection(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(HttpToolsProtocol.__init__)


@pytest.mark.parametrize(
    "name",
    ["more_body", "response_started", "response_complete", "keep_alive", "scope", "disconnected", "message_event"],
)
def test_the_state_of_a_call(name: str) -> None:
    assert f"self.{name} = " in inspect.getsource(RequestResponseCycle.__init__)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_callbacks_that_are_overridden(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


def test_what_is_no_http_is_answered_by_a_method_that_is_overridden() -> None:
    assert list(inspect.signature(HttpToolsProtocol.send_400_response).parameters) == ["self", "msg"]
    assert "self.send_400_response(" in inspect.getsource(HttpToolsProtocol.data_received)


def test_bodies_are_read_by_way_of_the_flow_that_is_replaced() -> None:
    assert list(inspect.signature(FlowControl.__init__).parameters) == ["self", "transport"]
    assert "self.flow.resume_reading()" in inspect.getsource(RequestResponseCycle.receive)
    assert "self.flow.resume_reading()" in inspect.getsource(HttpToolsProtocol.on_response_complete)


def test_requests_behind_a_running_one_wait_in_the_pipeline() -> None:
    assert "self.pipeline.appendleft(" in inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.pipeline.pop()" in inspect.getsource(HttpToolsProtocol.on_response_complete)


def test_the_status_lines() -> None:
    assert STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"


def test_an_error_in_a_callback_ends_the_parser_at_once() -> None:
    """It is what refuses the rest of a chunk once a bound is broken."""

    class Refusing:
        begun = 0

        def on_message_begin(self) -> None:
            self.begun += 1
            raise ValueError

    refusing = Refusing()
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(refusing).feed_data(b"GET / HTTP/1.1\r\n\r\n" * 3)
    assert refusing.begun == 1
