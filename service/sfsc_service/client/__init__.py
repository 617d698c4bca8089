"""Clients of the HTTP API, blocking and async. Need httpx and none of the service's other dependencies.

`Routes` describes every call once; `Client` returns its answer, `AsyncClient` an awaitable of it. With
`embed_with`, images are embedded on this device, which needs onnxruntime too.
"""

from sfsc_service.client.asynchronous import AsyncClient
from sfsc_service.client.sync import Client
from sfsc_service.errors import ServiceError

__all__ = ["AsyncClient", "Client", "ServiceError"]
