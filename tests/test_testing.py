"""`session_cookie` gives what a sign-in would give, or says what is wrong; never a cookie that is silently nobody's."""

from __future__ import annotations

from typing import Any

import pytest

from whop_middleware.testing import session_cookie

from .conftest import Clock, MakeSite
from .support import ORIGIN, Browser


def test_a_time_may_be_a_fraction(make_site: MakeSite, clock: Clock) -> None:
    browser = Browser(make_site())
    browser.cookies |= session_cookie(browser.site.middleware.config, origin=ORIGIN, signed_in_at=clock.at - 0.5)
    assert browser.get("/").user is not None


def test_over_long_fields_are_dropped_as_at_a_sign_in(make_site: MakeSite) -> None:
    browser = Browser(make_site())
    config = browser.site.middleware.config
    browser.cookies |= session_cookie(config, origin=ORIGIN, username="ada", name="A" * 3000, profile_pic_url="p" * 900)
    user = browser.get("/").user
    assert user is not None
    assert (user.username, user.profile_pic_url) == ("ada", None)


@pytest.mark.parametrize(
    "fields",
    [{"id": ""}, {"id": 5}, {"id": "é"}, {"id": "a" * 256}, {"username": 5}, {"access": {"prod_a": "owner"}}],
)
def test_what_no_sign_in_gives_is_refused(make_site: MakeSite, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|are text|maps ids"):
        session_cookie(make_site().middleware.config, **fields)
