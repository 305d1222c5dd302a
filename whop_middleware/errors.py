"""The errors of whop_middleware, split by whose fault each is. Refuses to carry a code, a token or a secret.

WhopError
├── ConfigError             the settings are wrong or missing (raised when the middleware is built)
└── SignInError             a sign-in or an access check came to nothing
    ├── StateError          400  the browser came back without the state it was sent off with
    ├── CodeRefused         400  Whop refused the code (used, expired, another redirect_uri)
    ├── SignInDeclined      403  the person said no on Whop's page
    ├── AccessDenied        403  signed in, but without the purchase
    ├── CredentialsRefused  502  Whop refused this app's credentials
    ├── BadWhopAnswer       502  Whop answered with something that cannot be trusted
    └── WhopUnreachable     503  Whop could not be asked
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "BadWhopAnswer",
    "CodeRefused",
    "ConfigError",
    "CredentialsRefused",
    "SignInDeclined",
    "SignInError",
    "StateError",
    "WhopError",
    "WhopUnreachable",
]


class WhopError(Exception):
    """The root of every error this package raises."""


class ConfigError(WhopError):
    """A setting is missing or wrong; the message names the field, its variable and the mend."""


class SignInError(WhopError):
    """A sign-in or access check failed; `status` is the HTTP status to answer, `code` the cause's stable name.

    `endpoint` names the endpoint of Whop that failed, `None` when none was asked.
    """

    status: int = 400
    code: str = "sign_in_failed"
    endpoint: str | None = None


class StateError(SignInError):
    """The callback's `state` is missing, stale, foreign or broken (RFC 6749 section 10.12)."""

    status = 400
    code = "state_invalid"


class CodeRefused(SignInError):
    """Whop refused the authorization code (`invalid_grant`, RFC 6749 section 5.2)."""

    status = 400
    code = "code_refused"


class SignInDeclined(SignInError):
    """The person declined on Whop's page (`access_denied`, RFC 6749 section 4.1.2.1)."""

    status = 403
    code = "sign_in_declined"


class AccessDenied(SignInError):
    """Someone is signed in but owns nothing that opens this page."""

    status = 403
    code = "purchase_required"


class CredentialsRefused(SignInError):
    """Whop refused this app's own credentials (`invalid_client`, RFC 6749 section 5.2)."""

    status = 502
    code = "credentials_refused"


class BadWhopAnswer(SignInError):
    """Whop's answer is not what its documentation promises."""

    status = 502
    code = "bad_whop_answer"


class WhopUnreachable(SignInError):
    """Whop could not be asked: outage, time-out or rate limit. `retry_after` is in seconds."""

    status = 503
    code = "whop_unreachable"
    tried_again: bool = False
    """Whether the driver itself has tried a second time, as it does when no connection was made."""

    def __init__(self, message: str, *, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after
