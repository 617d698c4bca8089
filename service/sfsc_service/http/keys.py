"""API keys: the file that lists them, and who calls with one.

The file is TOML, a line per key, and holds no key but its sha256. Keys are 256 random bits, which nobody can try
out, so no slow hash is needed.

    camera-1 = { sha256 = "9f86…", scopes = ["write"], requests_per_s = 5.0, images_per_s = 20.0 }
"""

import hashlib
import hmac
import json
import logging
import re
import secrets
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.manifest import Sha256
from sfsc_bundle.text_form import text_form
from sfsc_service.errors import Problem, StartError
from sfsc_service.http.access import KeyScope
from sfsc_service.http.quota import TokenBucket

__all__ = ["Caller", "KeyEntry", "KeyName", "KeyRing", "file_line", "make_key", "read_keys"]

PREFIX = "sfsc_"
DEFINITION = re.compile(r"""^[ \t]*\[?[ \t]*["']?([\w-]+)["']?[ \t]*(?:\]|=[ \t]*\{)""", re.MULTILINE)
"""The name of a key at the beginning of its line, `name = {`, or of its section, `[name]`."""

log = logging.getLogger(__name__)


KeyName = Annotated[str, text_form(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters (A to Z), digits, _ or -")]


class KeyEntry(BaseModel):
    """A key as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Sha256
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    requests_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    images_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)


Entries = TypeAdapter(dict[KeyName, KeyEntry])


class Caller:
    """Who calls: the holder of one key, with what is left of its quota; or anybody, where there are no keys."""

    def __init__(self, name: str, entry: KeyEntry | None = None) -> None:
        self.name, self.entry = name, entry
        self._requests = _bucket(None if entry is None else entry.requests_per_s)
        self._images = _bucket(None if entry is None else entry.images_per_s)

    def admit(self) -> None:
        """Count one request. Raises Problem: quota_exceeded."""
        for bucket, what in ((self._requests, "requests"), (self._images, "images")):
            if bucket is not None and (wait_s := bucket.wait_s()) > 0:
                rule = f"the key {self.name} may use {bucket.rate:g} {what} a second"
                raise Problem("quota_exceeded", rule, retry_after_s=wait_s)
        if self._requests is not None:
            self._requests.take()

    def count_images(self, images: int) -> None:
        """Count images of an admitted request; they delay the key's next one."""
        if self._images is not None:
            self._images.take(images)


class KeyRing:
    """The keys of a running service.

    Args:
        path: the file; None where no key is asked for.
        own: keys of this process's own, by name, beside those of the file.

    Raises:
        StartError: as `read_keys`.
    """

    def __init__(self, path: Path | None, own: Mapping[str, KeyEntry] | None = None) -> None:
        self._path, self._own = path, own or {}
        self._callers: Sequence[tuple[bytes, Caller]] = []
        if path is not None:
            self._replace(read_keys(path))

    @property
    def asked_for(self) -> bool:
        """Whether callers need a key."""
        return self._path is not None

    def caller(self, key: str) -> Caller | None:
        """Who holds a key; None where nobody does. How long it takes tells nothing of the keys."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for one, caller in self._callers:
            if hmac.compare_digest(one, digest):
                found = caller
        return found

    def reread(self) -> None:
        """Read the file again; where it cannot be read, the keys stay as they are, and the log says why."""
        if self._path is None:
            return
        try:
            self._replace(read_keys(self._path))
        except StartError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("reread %d keys from %s", len(self._callers) - len(self._own), self._path)

    def _replace(self, entries: Mapping[str, KeyEntry]) -> None:
        """Take these keys; one that is as it was keeps what is left of its quota."""
        if not entries:
            log.warning("keys: %s holds no key: nobody may call", self._path)
        before = {caller.name: caller for _, caller in self._callers}
        callers = []
        for name, entry in {**entries, **self._own}.items():
            known = before.get(name)
            caller = known if known is not None and known.entry == entry else Caller(name, entry)
            callers.append((bytes.fromhex(entry.sha256), caller))
        self._callers = callers


def make_key(
    scopes: Sequence[KeyScope], requests_per_s: float | None = None, images_per_s: float | None = None
) -> tuple[str, KeyEntry]:
    """A new key, and its entry for the file. Raises ValidationError where a quota is not positive."""
    key = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, KeyEntry(
        sha256=digest, scopes=tuple(scopes), requests_per_s=requests_per_s, images_per_s=images_per_s
    )


def file_line(name: str, entry: KeyEntry) -> str:
    """The line of the file; TOML writes these values as JSON does."""
    members = entry.model_dump(exclude_none=True)
    return f"{name} = {{ {', '.join(f'{member} = {json.dumps(value)}' for member, value in members.items())} }}"


def read_keys(path: Path) -> Mapping[str, KeyEntry]:
    """The keys of a file by name. Raises StartError where it cannot be read or breaks a rule."""
    try:
        entries = Entries.validate_python(_parsed(path.read_bytes()))
    except OSError as error:
        raise StartError(f"keys: {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise StartError(f"keys: {path}: {first_broken_rule(error)}") from error
    except ValueError as error:
        raise StartError(f"keys: {path}: {error}") from error
    digests = [entry.sha256 for entry in entries.values()]
    if len(set(digests)) < len(digests):
        raise StartError(f"keys: {path}: each key must stand there once, found one under two names")
    return entries


def _parsed(data: bytes) -> Mapping[str, object]:
    """The file's document. Raises ValueError where it is none, or names a key twice."""
    try:
        return tomllib.loads(data.decode())
    except ValueError as error:
        for name, times in Counter(DEFINITION.findall(data.decode(errors="replace"))).items():
            if times > 1:  # of which TOML would only say that a value is overwritten
                raise ValueError(f"each name must stand there once, found {name} {times} times") from error
        raise ValueError(f"must be TOML: {error}") from error


def _bucket(rate: float | None) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate)
