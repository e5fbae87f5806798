"""What a client is told that cannot be served, in the form of OpenAI's errors."""

from __future__ import annotations

from typing import Any, Final

from grammars.errors import GrammaError

_TYPES: Final = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class RequestRefused(GrammaError):  # noqa: N818 - it is the server's answer, not its failure
    """A request that is not answered.

    Args:
        message: what is wrong, and what to do.
        status: of HTTP.
        param: the member of the request that it is about, such as ``messages[0].content``.
        code: a word for programs.
        retry_after: seconds after which it may be tried again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def again(self) -> RequestRefused:
        """The same refusal, to be raised once more: one that is kept would gather tracebacks."""
        return RequestRefused(
            self.message,
            status=self.status,
            param=self.param,
            code=self.code,
            retry_after=self.retry_after,
        )

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that is answered."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}

    @property
    def headers(self) -> dict[str, str]:
        """The headers that are answered beside it."""
        made = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return made | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def unsupported(param: str, why: str = "this server does not support it") -> RequestRefused:
    """The refusal of a member that is known, but not supported."""
    return RequestRefused(f"{param}: {why}", param=param, code="unsupported_parameter")


def invalid(param: str, why: str) -> RequestRefused:
    """The refusal of a member with a value that it cannot have."""
    return RequestRefused(f"{param}: {why}", param=param, code="invalid_value")
