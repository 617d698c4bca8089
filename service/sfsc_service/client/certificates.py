"""Whose certificates a client trusts."""

import os
import ssl

import httpx

from sfsc_service.errors import ServiceError

__all__ = ["trusted_certificates"]

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def trusted_certificates(base_url: str) -> ssl.SSLContext | bool:
    """Those that SSL_CERT_FILE or SSL_CERT_DIR name, as for other programs, else those that httpx brings.

    Of the environment a client takes nothing else, so that no proxy and no .netrc comes in between.

    Raises:
        ServiceError: invalid_certificates, where what they name cannot be used.
    """
    named = next((variable for variable in VARIABLES if os.environ.get(variable)), None)
    if named is None or not base_url.lower().startswith("https:"):
        return True
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise ServiceError(
            "invalid_certificates", f"{named}: {os.environ[named]} cannot be used: {reason}", 0
        ) from error
