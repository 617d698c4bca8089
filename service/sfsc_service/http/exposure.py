"""Whether the service may listen where it is told to, its certificate, and what an operator is warned of.

Without keys only this machine may call, unless `allow_open` says that something else keeps strangers out.
"""

import ipaddress
import logging
import ssl
from pathlib import Path

from sfsc_service.errors import StartError
from sfsc_service.settings import Settings, listed

__all__ = ["check_certificate", "check_exposure", "reread_certificate"]

log = logging.getLogger(__name__)


def check_exposure(settings: Settings, bound_to: str) -> None:
    """Check the address that a socket is bound to, and log what strangers could do.

    Raises:
        StartError: other machines can reach it, directly or through a proxy, there are no keys, and `allow_open`
            is off.
    """
    if everybody := [one for one in listed(settings.trusted_proxies) if ipaddress.ip_network(one).prefixlen == 0]:
        log.warning(
            "trusted_proxies: %s is every address, so every caller may say in X-Forwarded-For who it is, and log "
            "and bounds per address believe it; name the proxies alone",
            ", ".join(everybody),
        )
    if ipaddress.ip_address(bound_to.partition("%")[0]).is_loopback:
        _check_proxies(settings)
        return
    if settings.keys is None:
        if not settings.allow_open:
            raise StartError(
                f"host: other machines can reach {settings.host}, and without keys each of them could read, write "
                "and delete; set keys (SFSC_KEYS, see `sfsc key --help`), or allow_open (SFSC_ALLOW_OPEN=true) "
                "where something else keeps strangers out"
            )
        log.warning(
            "listening on %s without keys (allow_open): whoever reaches it can read, write and delete",
            settings.host,
        )
    elif settings.tls_cert is None and settings.trusted_proxies is None:
        log.warning(
            "listening on %s without TLS: whoever sees the traffic can copy the keys; set tls_cert and tls_key, "
            "or put a proxy that ends TLS in front and name it in trusted_proxies",
            settings.host,
        )


def _check_proxies(settings: Settings) -> None:
    """Check what is said of proxies that listen for this machine's services, and so bring strangers to them."""
    if settings.keys is None and settings.trusted_proxies is not None:
        if not settings.allow_open:
            raise StartError(
                f"trusted_proxies: whoever reaches the proxy at {settings.trusted_proxies} can reach the service, "
                "and without keys read, write and delete; set keys (SFSC_KEYS, see `sfsc key --help`), or "
                "allow_open (SFSC_ALLOW_OPEN=true) where the proxy keeps strangers out"
            )
        log.warning(
            "behind the proxy at %s without keys (allow_open): whoever it lets through can read, write and delete",
            settings.trusted_proxies,
        )
    elif settings.keys is None and settings.hosts is not None and not settings.allow_open:
        log.warning(
            "answering under %s without keys: if a proxy or a forwarded port brings callers from other machines, "
            "each of them can read, write and delete",
            settings.hosts,
        )


def check_certificate(settings: Settings) -> None:
    """Load certificate and key once. Raises StartError where they cannot be read or do not belong together."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise StartError(_reason(settings, error)) from error


def reread_certificate(context: ssl.SSLContext | None, settings: Settings) -> None:
    """Use the certificate that the files hold now for new connections; log where there is no usable one."""
    if context is None or settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        # A context takes the chain before the key, and keeps half of a bad pair: try the pair elsewhere first.
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings.tls_cert, settings.tls_key)
        _load(context, settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        log.error("the certificate stays as it was: %s", _reason(settings, error))
    else:
        log.info("reread the certificate from %s", settings.tls_cert)


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    context.load_cert_chain(certificate, key, password=_no_password)


def _no_password() -> str:
    """Without this, OpenSSL would ask for an encrypted key's password on the terminal."""
    raise OSError("the key is encrypted")


def _reason(settings: Settings, error: OSError) -> str:
    reason = (error.strerror or str(error)) if not isinstance(error, ssl.SSLError) else error.reason or str(error)
    return f"tls_cert, tls_key: {settings.tls_cert} and {settings.tls_key} cannot be used: {reason}"
