"""One call of the service, described once for blocking and async clients.

A route is a function that prepares a call and sends nothing. As an attribute of a blocking client it becomes a
method that returns the answer; of an async one, a method that returns an awaitable of it.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload
from urllib.parse import quote

import httpx

__all__ = [
    "Answered",
    "Batch",
    "Blocking",
    "Call",
    "NonBlocking",
    "Pipeline",
    "Prepared",
    "Repeat",
    "Route",
    "Steps",
    "Stream",
    "next_call",
    "quoted",
]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

OF_A_GALLERY = ("/items", "/search")
"""How the paths of calls begin that are there for every collection."""

Repeat = Literal["always", "if refused", "never"]
"""When a call may be sent again; `always` includes lost connections, `if refused` means that nothing was done."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request; `read` turns a successful response into the answer.

    `patient`: it is part of a bulk load, which waits for as long as the service is busy.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    media_type: str | None = None
    repeat: Repeat = "always"
    patient: bool = False

    def request(self, client: httpx.Client | httpx.AsyncClient, collection: str | None) -> httpx.Request:
        """The request, relative to a client's base URL; one to a gallery is about this collection."""
        path = self.path
        if collection is not None and path.startswith(OF_A_GALLERY):
            path = f"/collections/{quoted(collection)}{path}"
        headers = {} if self.media_type is None else {"Content-Type": self.media_type}
        params = dict(self.params) or None
        return client.build_request(self.method, path, params=params, content=self.content, headers=headers)


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """An answer that was found on this device; nothing is sent."""

    answer: T


Prepared = Call[T] | Answered[T]


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What one call of several gave; `cursor` leads to the next page, None where there is none."""

    values: list[T]
    cursor: str | None = None


Steps = Generator[Call[Batch[T]], Batch[T], None]
"""Calls that are sent one after the other; each is told what the previous one gave."""


class Blocking(Protocol):
    """A client whose methods return answers."""

    def run(self, prepare: Callable[[], Prepared[T]]) -> T: ...

    def iterate(self, steps: Steps[T]) -> Iterator[T]: ...

    def pipe(self, calls: Iterator[Call[Batch[T]]]) -> Iterator[T]: ...


class NonBlocking(Protocol):
    """A client whose methods return awaitables."""

    def run(self, prepare: Callable[[], Prepared[T]]) -> Awaitable[T]: ...

    def iterate(self, steps: Steps[T]) -> AsyncIterator[T]: ...

    def pipe(self, calls: Iterator[Call[Batch[T]]]) -> AsyncIterator[T]: ...


class Route(Generic[P, T]):
    """A method that makes one call."""

    def __init__(self, prepare: Callable[Concatenate[Any, P], Prepared[T]]) -> None:
        self._prepare = prepare
        self.__doc__ = prepare.__doc__

    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: NonBlocking, owner: type) -> Callable[P, Awaitable[T]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client, or this route itself as an attribute of the class."""
        if client is None:
            return self

        @functools.wraps(self._prepare)
        def method(*args: Any, **options: Any) -> Any:
            return client.run(functools.partial(self._prepare, client, *args, **options))

        return method


class _Iterating(Generic[P, T, S]):
    """A method that makes calls and iterates over what all of them give."""

    def __init__(self, prepare: Callable[Concatenate[Any, P], S]) -> None:
        self._prepare = prepare
        self.__doc__ = prepare.__doc__

    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Iterator[T]]: ...

    @overload
    def __get__(self, client: NonBlocking, owner: type) -> Callable[P, AsyncIterator[T]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client, or this object itself as an attribute of the class."""
        if client is None:
            return self

        @functools.wraps(self._prepare)
        def method(*args: Any, **options: Any) -> Any:
            return self._begin(client, self._prepare(client, *args, **options))

        return method

    def _begin(self, client: Any, prepared: S) -> Any:
        raise NotImplementedError


class Stream(_Iterating[P, T, Steps[T]]):
    """Calls one after the other, each told what the previous one gave."""

    def _begin(self, client: Any, prepared: Steps[T]) -> Any:
        return client.iterate(prepared)


class Pipeline(_Iterating[P, T, Iterator[Call[Batch[T]]]]):
    """Calls that need no other's answer: while one is answered, the next one is prepared."""

    def _begin(self, client: Any, prepared: Iterator[Call[Batch[T]]]) -> Any:
        return client.pipe(prepared)


def quoted(segment: str) -> str:
    """A part of a path, percent-encoded.

    Refusing it is up to the service, also if it is not UTF-8, or is one of the two that an address would swallow.
    """
    found = quote(segment, safe="", errors="surrogatepass")
    return found.replace(".", "%2E") if segment in (".", "..") else found


def next_call(steps: Steps[T], previous: Batch[T] | None) -> Call[Batch[T]] | None:
    """The next call; None after the last one."""
    try:
        return next(steps) if previous is None else steps.send(previous)
    except StopIteration:
        return None
