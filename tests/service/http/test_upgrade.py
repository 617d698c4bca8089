"""Offers of another protocol, and requests for a tunnel."""

import socket
import time

import pytest

from tests.service.live import Live
from tests.service.raw import IMAGE, LIVEZ, connect, final, hear, request_head

OFFER = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2_Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
}


@pytest.mark.parametrize(
    "offer", [OFFER, {"Connection": "upgrade", "Upgrade": "websocket"}], ids=["h2c", "websocket"]
)
@pytest.mark.parametrize("split", [0, 30, 250], ids=["whole", "in the head", "in the body"])
def test_an_offer_of_another_protocol_is_passed_over(live: Live, offer: dict[str, str], split: int) -> None:
    """With its body, and with requests behind it: the JDK's client offers HTTP/2 whatever it sends."""
    kind = {"Content_Type": "image/jpeg"}
    sized = request_head("POST", "/embed?width=0.25", **kind, **offer, Content_Length=len(IMAGE)) + IMAGE
    chunked = request_head("POST", "/embed?width=0.25", **kind, **offer, Transfer_Encoding="chunked")
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(IMAGE), IMAGE)
    sent = sized + LIVEZ + chunked + request_head("GET", "/livez", **offer) + LIVEZ
    with connect(live) as connection:
        connection.sendall(sent[:split])
        time.sleep(0.02 if split else 0)
        connection.sendall(sent[split:])
        connection.shutdown(socket.SHUT_WR)
        assert final(hear(connection)) == [b"200"] * 5


def test_a_tunnel_is_refused(live: Live) -> None:
    with connect(live) as connection:
        connection.sendall(LIVEZ + b"CONNECT localhost:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert final(hear(connection)) == [b"200", b"400"]
