"""The server around the application: where it listens, and how it stops."""

from __future__ import annotations

import time
from types import FrameType
from typing import Any

import uvicorn

from samplers.serving.service import Service


class Server(uvicorn.Server):
    """A server that finishes what it has begun before it stops.

    The first signal closes it to new requests, which get 503; it ends when the others are answered, or after
    ``grace_seconds``.  A second signal ends it at once.

    Args:
        app: of :func:`~samplers.serving.application.create_app`.
        host, port: where it listens; port 0 takes one that is free.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._service: Service = app.state.service
        self._leave_at = float("inf")
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )

    @property
    def url(self) -> str:
        """Where it listens, when it does."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop, or stops at once the second time."""
        if self._service.is_draining:
            super().handle_exit(sig, frame)
            return
        self.stop()

    def stop(self) -> None:
        """Begins to stop."""
        self._service.drain()
        self._leave_at = time.monotonic() + self._service.options.grace_seconds

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether it is to end."""
        if await super().on_tick(counter):
            return True
        if not self._service.is_draining:
            return False
        if self._service.open_requests and time.monotonic() > self._leave_at:
            await self._service.give_up()
            return True
        return not self._service.open_requests
