"""Errors of the server, in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

RETRY_S = 1


class ApiError(Exception):
    """What a client is told instead of an answer.

    `kind` and `code` are OpenAI's `type` and `code`; `param` the field of the request that is meant.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole response."""
        return JSONResponse(self.as_json(), self.status, self.headers)


def wrong(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The request is wrong."""
    return ApiError(400, message, param=param, code=code)


def loading() -> ApiError:
    """The model is not there yet."""
    headers = {"Retry-After": str(RETRY_S)}
    return ApiError(503, "the model is still loading", kind="server_error", code="loading", headers=headers)


def busy(waiting: int) -> ApiError:
    """Too many requests wait already."""
    message = f"{waiting} requests wait already; one is answered at a time"
    headers = {"Retry-After": str(RETRY_S)}
    return ApiError(429, message, kind="rate_limit_error", code="queue_full", headers=headers)


def late(timeout_s: float) -> ApiError:
    """The answer took too long; it would again, so clients of OpenAI's are told not to repeat the request."""
    headers = {"X-Should-Retry": "false"}
    return ApiError(504, f"not done after {timeout_s:g} s", kind="server_error", code="timeout", headers=headers)


def ending() -> ApiError:
    """The server ends, and with it the work on the request."""
    return ApiError(503, "the server ends", kind="server_error", code="ending")


def broken() -> ApiError:
    """The server failed; what happened is in its log, not in the answer."""
    return ApiError(500, "the server failed; its log says why", kind="server_error", code="internal_error")
