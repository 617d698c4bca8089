"""Clients of the HTTP API. Need httpx and none of the service's other dependencies."""

from sfsc_service.client.sync import Client, ServiceError

__all__ = ["Client", "ServiceError"]
