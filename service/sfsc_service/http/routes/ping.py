"""GET /ping."""

from fastapi import FastAPI

__all__ = ["add_routes"]


def add_routes(app: FastAPI) -> None:
    """Add the route to an application."""
    app.add_api_route("/ping", _ping, methods=["GET"], tags=["service"], summary="Answer at once")


async def _ping() -> dict[str, str]:
    return {"answer": "pong"}
