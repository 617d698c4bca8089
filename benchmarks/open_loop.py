"""An open-loop load generator in a process of its own, so that its CPU time can be told from the server's.

Every request is sent at a time that was fixed beforehand, whether or not earlier ones have been answered, over an
idle connection; latency counts from that time. `offer` starts the process and waits for it. `saturate` runs the
same generator as a closed loop, to measure the capacity of the service.
"""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

__all__ = ["Answered", "Offered", "keep_busy", "offer", "saturate"]

ANSWER_TIMEOUT_S = 10.0
"""How long to wait for answers after the last request."""
LEAD_S = 0.3
"""From opening the connections to the first request."""
CONNECTIONS = 64
"""Open from the start; more are opened when all are in use."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was to be sent (seconds from the start), its latency, status and width.

    `status` 0: no answer came. `sent_late_ms`: by how much it was sent later than it was to be, as the generator
    had no time. `service_ms`: how long it took by the service's own clock; 0 where the answer does not say.
    """

    at: float
    latency_ms: float
    status: int
    width: str
    sent_late_ms: float
    service_ms: float


@dataclass(frozen=True, slots=True)
class Offered:
    """The outcome of a load. `cpu_s`: CPU time of the generator, from the first request to the last answer."""

    answers: tuple[Answered, ...]
    cpu_s: float
    seconds: float


def offer(port: int, path: str, times: Sequence[float], bodies: Sequence[Path]) -> Offered:
    """POST JPEG bodies in turn to a path of the service on a local port at the given times."""
    return _generate({"times": list(times)}, port, path, bodies)


def keep_busy(port: int, path: str, clients: int, seconds: float, bodies: Sequence[Path]) -> Offered:
    """The answers within a time to so many clients that send their next request as soon as they have an answer."""
    return _generate({"clients": clients, "for_s": seconds}, port, path, bodies)


def saturate(port: int, path: str, clients: int, seconds: float, bodies: Sequence[Path]) -> float:
    """Answers a second, where so many clients send their next request as soon as they have an answer."""
    offered = keep_busy(port, path, clients, seconds, bodies)
    return sum(one.status == 200 for one in offered.answers) / offered.seconds


def _generate(load: dict[str, object], port: int, path: str, bodies: Sequence[Path]) -> Offered:
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        plan.write_text(json.dumps({"port": port, "path": path, "bodies": [str(body) for body in bodies], **load}))
        done = subprocess.run([sys.executable, __file__, plan], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return Offered(tuple(Answered(*one) for one in found["answers"]), found["cpu_s"], found["seconds"])


class _Connection(asyncio.Protocol):
    """One request at a time; reports status and width of its answer to `_Load.ended`."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._received = bytearray()
        self._request: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from asyncio's

    def send(self, number: int, request: bytes) -> None:
        """Send request `number`; the connection must be free."""
        assert self._transport is not None
        self._request = number
        self._load.sent(number)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        head = received.find(b"\r\n\r\n")
        if head < 0 or self._request is None:
            return
        if len(received) < head + 4 + _content_length(received, head):
            return
        answer = bytes(received)
        received.clear()
        reusable = b"connection: close" not in answer[:head].lower()
        self._finish(int(answer[9:12]), _width(answer), _service_ms(answer), reusable=reusable)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._request is not None:
            self._finish(0, "", 0.0, reusable=False)
        elif self in self._load.free:
            self._load.free.remove(self)

    def _finish(self, status: int, width: str, service_ms: float, *, reusable: bool) -> None:
        number, self._request = self._request, None
        assert number is not None
        if reusable:
            self._load.free.append(self)
        self._load.ended(number, status, width, service_ms)


def _content_length(received: bytearray, head: int) -> int:
    lines = received[:head].lower()
    at = lines.find(b"content-length: ")
    return int(lines[at + 16 :].split(b"\r", 1)[0])


def _width(answer: bytes) -> str:
    at = answer.find(b'"width":"')
    return answer[at + 9 : answer.find(b'"', at + 9)].decode() if at >= 0 else ""


def _service_ms(answer: bytes) -> float:
    at = answer.rfind(b'"total":')
    return float(answer[at + 8 :].split(b"}", 1)[0].split(b",", 1)[0]) if at >= 0 else 0.0


class _Load:
    """The requests of one plan and their outcomes."""

    def __init__(self, port: int, path: str, times: Sequence[float], bodies: Sequence[bytes]) -> None:
        self._port, self._times = port, list(times)
        self._requests = [_request(path, body) for body in bodies]
        self._answers: list[tuple[float, float, int, str, float, float] | None] = [None] * len(times)
        self._late_ms: dict[int, float] = {}
        self._left = len(times)
        self._start = 0.0
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.free: list[_Connection] = []

    async def run(self) -> dict[str, object]:
        """Send everything and wait for the answers."""
        loop = asyncio.get_running_loop()
        self._loop, self._done = loop, asyncio.Event()
        for _ in range(CONNECTIONS):
            self.free.append(await self._connect())
        self._start = time.monotonic() + LEAD_S
        before = _cpu_s()
        loop.call_later(LEAD_S + self._times[0], self._send_due)
        try:
            async with asyncio.timeout(LEAD_S + self._times[-1] + ANSWER_TIMEOUT_S):
                await self._done.wait()
        except TimeoutError:
            pass
        answers = [
            one if one is not None else (at, 1000 * ANSWER_TIMEOUT_S, 0, "", 0.0, 0.0)
            for at, one in zip(self._times, self._answers, strict=True)
        ]
        return {"answers": answers, "cpu_s": _cpu_s() - before, "seconds": time.monotonic() - self._start}

    def sent(self, number: int) -> None:
        """Request `number` is sent now."""
        self._late_ms[number] = round(1000 * (time.monotonic() - self._start - self._times[number]), 3)

    def ended(self, number: int, status: int, width: str, service_ms: float) -> None:
        """Request `number` was answered."""
        self._record(number, status, width, service_ms)
        self._left -= 1
        if not self._left:
            self._done.set()

    def _record(self, number: int, status: int, width: str, service_ms: float) -> None:
        at = self._times[number]
        latency_ms = round(1000 * (time.monotonic() - self._start - at), 3)
        self._answers[number] = (at, latency_ms, status, width, self._late_ms.pop(number, 0.0), service_ms)

    def _send_due(self) -> None:
        now = time.monotonic() - self._start
        while self._next < len(self._times) and self._times[self._next] <= now:
            number, self._next = self._next, self._next + 1
            if self.free:
                self.free.pop().send(number, self._requests[number % len(self._requests)])
            else:
                task = self._loop.create_task(self._send_on_new(number))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if self._next < len(self._times):
            # The loop's timers have whole milliseconds; what is sent late counts as late.
            self._loop.call_later(max(0.001, self._times[self._next] - now), self._send_due)

    async def _send_on_new(self, number: int) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.ended(number, 0, "", 0.0)
            return
        connection.send(number, self._requests[number % len(self._requests)])

    async def _connect(self) -> _Connection:
        _, connection = await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        return connection


class _ClosedLoad(_Load):
    """As many requests under way as there are clients, until the time is up."""

    async def keep_busy(self, clients: int, seconds: float) -> dict[str, object]:
        """Send the next request on every connection that has become free."""
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        connections = [await self._connect() for _ in range(clients)]
        self._start, self._end = time.monotonic(), time.monotonic() + seconds
        before = _cpu_s()
        self.free = connections
        self._send_free()
        async with asyncio.timeout(seconds + ANSWER_TIMEOUT_S):
            await self._done.wait()
        answers = [one for one in self._answers if one is not None]
        return {"answers": answers, "cpu_s": _cpu_s() - before, "seconds": seconds}

    def ended(self, number: int, status: int, width: str, service_ms: float) -> None:
        if time.monotonic() < self._end:
            self._record(number, status, width, service_ms)
            self._send_free()
        else:
            self._done.set()

    def _send_free(self) -> None:
        while self.free:
            number = len(self._answers)
            self._times.append(time.monotonic() - self._start)
            self._answers.append(None)
            self.free.pop().send(number, self._requests[number % len(self._requests)])


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: sfsc\r\ncontent-type: image/jpeg\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _main(plan: Path) -> None:
    import uvloop

    wanted = json.loads(plan.read_text())
    bodies = [Path(body).read_bytes() for body in wanted["bodies"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if "times" in wanted:
            work = _Load(wanted["port"], wanted["path"], wanted["times"], bodies).run()
        else:
            closed = _ClosedLoad(wanted["port"], wanted["path"], [], bodies)
            work = closed.keep_busy(wanted["clients"], wanted["for_s"])
        json.dump(runner.run(work), sys.stdout)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
