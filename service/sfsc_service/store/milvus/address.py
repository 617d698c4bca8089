"""Where a gallery is: milvus://[USER:PASSWORD@]HOST:PORT/DATABASE."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

__all__ = ["MilvusAddress", "read_address"]

_FORM = "milvus://[USER:PASSWORD@]HOST:PORT/DATABASE"


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """`token`: USER:PASSWORD, or empty."""

    host: str
    port: int
    database: str
    token: str = field(default="", repr=False)

    @property
    def uri(self) -> str:
        """As pymilvus takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


def read_address(text: str) -> MilvusAddress:
    """Raises ValueError: it is no address of a database in Milvus; the message has no password."""
    try:
        if not text.isprintable():  # urlsplit would leave out a line break, also of a password
            raise ValueError
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"must be {_FORM}") from None
    database = parts.path.removeprefix("/")
    if parts.scheme != "milvus" or not parts.hostname or not port or "/" in database or parts.query:
        raise ValueError(f"must be {_FORM}")
    token = ""
    if parts.username:
        token = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return MilvusAddress(parts.hostname, port, database or "default", token)
