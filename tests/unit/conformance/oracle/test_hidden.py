"""Where a mask may stand for a value, and where it may not."""

from __future__ import annotations

import pytest

from harness.conformance.oracle.hidden import same_field, same_url


@pytest.mark.parametrize(
    ("true", "told", "same"),
    [
        ("/a?b=1&token=s", "/a?b=1&token=s", True),
        ("/a?b=1&token=s", "/a?b=1&token=REDACTED", True),
        ("/a?b=1&token=s", "/a?b=1&token=%5Bredacted%5D", True),
        ("/a?b=1&token=s", "/a?b=1&token=***", True),
        ("/a;jsessionid=s/b", "/a;jsessionid=[redacted]/b", True),
        ("/a#access_token=s", "/a#access_token=REDACTED", True),
        ("/a?%74oken=s&token=s", "/a?%74oken=REDACTED&token=REDACTED", True),
        ("/a?next=/b?token=s", "/a?next=REDACTED", True),
        ("/a?next=http://u:p@h/", "/a?next=REDACTED", True),
        ("/a?next=http://u:p@h/", "/a?next=http://REDACTED:REDACTED@h/", True),
        ("http://u:p@h/a", "http://REDACTED:REDACTED@h/a", True),
        ("http://u:p@h/a", "http://***@h/a", True),
        # No secret is hidden there, or another value is told.
        ("/a?b=1&token=s", "/a?b=REDACTED&token=REDACTED", False),
        ("/a?b=1&token=s", "/a?b=1&token=t", False),
        ("/a?b=1&token=s", "/a?b=1", False),
        ("/a?b=1&token=s", "/a", False),
        ("/a?b=1", "/a?b=1&token=REDACTED", False),
        ("/a?token=s", "/REDACTED?token=s", False),
        ("/a?token=s", "/b?token=REDACTED", False),
        ("/a?token=", "/a?token=REDACTED", False),
        ("http://h/a", "http://REDACTED@h/a", False),
        ("http://u:p@h/a", "http://REDACTED@g/a", False),
    ],
)
def test_urls(true: str, told: str, same: bool) -> None:
    assert same_url(true, told) is same


@pytest.mark.parametrize(
    ("name", "true", "told", "same"),
    [
        ("x-api-key", "s", "[redacted]", True),
        ("location", "/a?token=s", "/a?token=REDACTED", True),
        ("sec-websocket-protocol", "bearer, s", "[redacted]", True),
        ("x-api-key", "s", "t", False),
        ("server", "s", "[redacted]", False),
        ("location", "/a", "[redacted]", False),
        ("etag", "/a?token=s", "/a?token=REDACTED", False),
    ],
)
def test_fields(name: str, true: str, told: str, same: bool) -> None:
    assert same_field(name, true, told) is same
