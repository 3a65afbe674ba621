"""What went wrong, said so that the next step is clear.

A `Failure` is one line for what happened, an optional hint for what to do next, and the exit code. Commands
raise it; only `parsing` prints it. `failure_of` turns what the client raises into one: server errors keep
the original's form `server error: CODE - message`, and the hint is made from the code and the answer's
`details`.
"""

from typing import Any

from rstmdb_cli.exit_codes import ExitCode

_NOT_FOUND = ("NOT_FOUND", "MACHINE_NOT_FOUND", "INSTANCE_NOT_FOUND")
_AUTHENTICATION = ("UNAUTHORIZED", "AUTH_FAILED")
_REFUSED = (
    "INVALID_TRANSITION",
    "GUARD_FAILED",
    "CONFLICT",
    "INSTANCE_EXISTS",
    "MACHINE_VERSION_EXISTS",
    "MACHINE_VERSION_LIMIT_EXCEEDED",
    "BAD_REQUEST",
    "RATE_LIMITED",
)


class Failure(Exception):  # noqa: N818 - a failed command, which need not be anybody's error
    """A command that cannot go on.

    Attributes:
        message: What happened, one line (a JSON error adds the place on further lines).
        hint: What to do next, or None.
        code: How the process ends.
        label: The word before the message on standard error.
        details: What the server added for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: ExitCode = ExitCode.FAILED,
        label: str = "Error",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.label = label
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.label}: {self.message}"


def server_failure(
    error_code: str,
    message: str,
    details: dict[str, Any] | None = None,
    *,
    token_given: bool = False,
    subject: str | None = None,
) -> Failure:
    """Build the failure for an error answer of the server.

    Args:
        error_code: One of the wire's codes.
        message: The server's text.
        details: The answer's `details`, if it had any.
        token_given: Whether this command sent a token, which decides what to advise.
        subject: The instance that the command is about.
    """
    if error_code in _NOT_FOUND:
        code = ExitCode.NOT_FOUND
    elif error_code in _AUTHENTICATION:
        code = ExitCode.AUTHENTICATION
    elif error_code in _REFUSED:
        code = ExitCode.REFUSED
    else:
        code = ExitCode.FAILED
    hint = _hint(error_code, details or {}, token_given=token_given, instance=subject or "INSTANCE")
    return Failure(f"server error: {error_code} - {message}", hint=hint, code=code, details=details)


def _hint(code: str, details: dict[str, Any], *, token_given: bool, instance: str) -> str | None:
    reason = details.get("reason")
    match code:
        case "UNAUTHORIZED" | "AUTH_FAILED" if token_given:
            return (
                "this server does not know the token; compare `rstmdb-cli hash-token TOKEN` with its "
                "auth.token_hashes, and check -t, RSTMDB_TOKEN and the profile"
            )
        case "UNAUTHORIZED" | "AUTH_FAILED":
            return "this server wants a token: give --token-file FILE, -t TOKEN, or set RSTMDB_TOKEN"
        case "MACHINE_NOT_FOUND":
            return "`rstmdb-cli list-machines` shows the machines and versions of this server"
        case "INSTANCE_NOT_FOUND":
            return "`rstmdb-cli list-instances` shows the instances of this server"
        case "INSTANCE_EXISTS":
            return "choose another --id, or send the same --idempotency-key to repeat a creation safely"
        case "MACHINE_VERSION_EXISTS":
            return "a version never changes; register the new definition under the next --version"
        case "MACHINE_VERSION_LIMIT_EXCEEDED":
            return "the server's storage.max_machine_versions is reached; raise it or reuse a version"
        case "INVALID_TRANSITION":
            allowed = details.get("allowed_events")
            if isinstance(allowed, list):
                listed = ", ".join(map(str, allowed)) or "none: the state is final"
                return f"events allowed now: {listed} (`rstmdb-cli describe {instance}`)"
            return f"`rstmdb-cli describe {instance}` shows the events that are allowed now"
        case "GUARD_FAILED":
            why = "; ".join(map(guard_text, details.get("guards") or [])) or "the guard is false"
            return (
                f"{why}. Guards read the context before the payload is merged "
                f"(`rstmdb-cli describe {instance}` shows both)"
            )
        case "CONFLICT" if reason == "IDEMPOTENCY_KEY_REUSED":
            return "this --idempotency-key was used for another request; use a new key for a new request"
        case "CONFLICT":
            return (
                f"the instance has moved on; look at it (`rstmdb-cli get-instance {instance}`) and try again"
            )
        case "BAD_REQUEST" if reason == "OFFSET_COMPACTED":
            return f"the log starts at offset {details.get('oldest_offset')}; --from-offset 0 starts there"
        case "BAD_REQUEST" if reason == "OFFSET_AHEAD":
            return "the server has not reached this offset: another server, or one restored from a backup?"
        case "WAL_IO_ERROR" if reason == "DISK_FULL":
            return (
                "the server's disk is full; nothing was applied, and it goes on by itself when there is room"
            )
        case "WAL_IO_ERROR":
            return "the server could not write its log; its own log says why"
        case _:
            return None


def guard_text(tried: dict[str, Any]) -> str:
    """Say which guard was false, and with which values.

    Args:
        tried: `{"guard", "to", "values"}`, as the server describes it.
    """
    values = tried.get("values") or {}
    seen = ", ".join(f"{_field(name)} = {_shown(value)}" for name, value in values.items())
    return f"the guard {tried.get('guard')!r} is false{' with ' + seen if seen else ''}"


def _field(name: str) -> str:
    return name if name.startswith("ctx") else f"ctx.{name}"


def _shown(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
