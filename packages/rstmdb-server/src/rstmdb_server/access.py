"""What a session may do at this moment: the gate in front of every operation, and what a reload changes.

::

    NOBODY --AUTH--> principal --(roles, scope, time)--> allowed | UNAUTHORIZED with details.reason
      ^                  |
      +--- token gone ---+   its subscriptions end, too: they are requests that go on

Whoever is unrestricted never comes here: the dispatcher asks one attribute.
"""

from __future__ import annotations

from rstmdb_core import Refusal
from rstmdb_server.answers import unauthorized
from rstmdb_server.auth import AuthRefusal, RefusalReason
from rstmdb_server.services import Services
from rstmdb_server.session import Session


class Access:
    """Decides for sessions that are limited, or not yet anybody.

    Args:
        services: The authenticator that counts, and the subscriptions.
    """

    __slots__ = ("_services",)

    def __init__(self, services: Services) -> None:
        self._services = services

    def refusal(self, session: Session, operation: str) -> Refusal | None:
        """Return why the session may not do this operation, or None."""
        principal = session.principal
        if principal is None:
            if session.revoked in (RefusalReason.REVOKED, RefusalReason.EXPIRED):
                return unauthorized("the token of this session is no longer accepted", session.revoked)
            return unauthorized(
                "authentication required: send AUTH with a token first", RefusalReason.NOT_AUTHENTICATED
            )
        if principal.expired(self._services.database.now_ms):
            return unauthorized(f"the token of {principal.name!r} has expired", RefusalReason.EXPIRED)
        reason = principal.refusal(operation)
        return None if reason is None else unauthorized(f"{principal.name!r} may not {operation}", reason)

    def renew(self, session: Session, now_ms: int) -> None:
        """Make the session what its token is worth under the authenticator of a reload."""
        authenticator = self._services.authenticator
        principal = session.principal
        if principal is None:
            if authenticator.anonymous is not None:
                session.admit(authenticator.anonymous)
            return
        renewed = authenticator.renew(principal, now_ms)
        if isinstance(renewed, AuthRefusal):
            # Whoever came in while nobody had to say who they are never had a token to lose.
            reason = renewed.reason if principal.token_hash else RefusalReason.NOT_AUTHENTICATED
            session.dismiss(reason)
            self._end_subscriptions(session, reason)
        elif renewed != principal:
            session.admit(renewed)
            visible = renewed.sees if renewed.scoped else None
            for subscription in session.subscriptions.values():
                subscription.filter = subscription.filter.seen_by(visible)

    def end_expired(self, session: Session, now_ms: int) -> None:
        """End the subscriptions of a session whose token has run out meanwhile."""
        if session.principal is not None and session.principal.expired(now_ms):
            self._end_subscriptions(session, RefusalReason.EXPIRED)

    def _end_subscriptions(self, session: Session, reason: RefusalReason) -> None:
        for subscription in list(session.subscriptions.values()):
            self._services.hub.end(subscription, reason=reason.value)
