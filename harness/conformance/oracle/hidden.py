"""What a tapper that hides secrets may write in place of a value. Pure.

Which names are secret is nobody's rule. So a mask is right wherever a name may stand for a secret, and wrong elsewhere.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from urllib.parse import unquote

_SECRET = re.compile(
    r"auth|token|secret|passw|passphrase|\bpass\b|pwd|key|sig|cookie|credential|session|sessid|\bsid\b|code|jwt|bearer|"
    r"ticket|otp|assertion|csrf|xsrf|dpop|saml|oidc",
    re.IGNORECASE,
)
_EDGE = r"(?:%[0-9a-f]{2}|\W)*"
_MASK = re.compile(rf"{_EDGE}(?:redacted|masked|hidden|removed|secret|x+|\*+){_EDGE}", re.IGNORECASE)
_URL_FIELDS = frozenset(
    {"location", "content-location", "referer", "link", "refresh", "host", "sec-websocket-protocol"}
)
_USER = re.compile(r"(//|^)([^/?#]*)@")
_QUERY = re.compile(r"[?#]")
_STEP = re.compile(r"[/;]")
_SEPARATOR = re.compile(r"[&#]")


CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
"""The fields that hold secrets for certain (RFC 9110, section 11.6; RFC 6265), in lower case."""
_WORD = re.compile(r"[^\s;,=]+")


def may_be_hidden(name: str) -> bool:
    """Whether the values of fields or parameters with this name may be secret."""
    return _SECRET.search(name) is not None


def is_mask(told: str) -> bool:
    """Whether a text says that a value is hidden: [redacted], REDACTED, ***, %5Bmasked%5D."""
    return _MASK.fullmatch(told) is not None


def hides(name: str, true: str, told: str) -> bool:
    """Whether the value of one of `CREDENTIALS` is hidden: by a mask, or by masks beside what is no secret.

    "Bearer [redacted]" hides "Bearer abc", and "a=***; b=***; Path=/" hides "a=1; b=2; Path=/".
    """
    if not true or is_mask(told):
        return True
    first, *others = true.split(";")
    if name.endswith("authorization"):
        known = set(true.split()[:-1][:1])  # the scheme (RFC 9110, section 11.4)
    else:
        pairs = [first, *others] if name == "cookie" else [first]
        attributes = [] if name == "cookie" else others
        known = {pair.partition("=")[0].strip() for pair in pairs} | set(_WORD.findall(" ".join(attributes)))
    return all(is_mask(word) or word in known for word in _WORD.findall(told))


def same_field(name: str, true: str, told: str) -> bool:
    """Whether a field's value is told, or is hidden as far as it may be secret. The name is in lower case."""
    if may_be_hidden(name) and (is_mask(told) or (name in CREDENTIALS and hides(name, true, told))):
        return True
    return name in _URL_FIELDS and (same_url(true, told) or (is_mask(told) and may_be_hidden(true)))


def same_url(true: str, told: str) -> bool:
    """Whether a URL, or a request's target, is told but for its secrets: user name, password, secret parameters."""
    # 1. User name and password.
    (true_path, *true_query), (told_path, *told_query) = _QUERY.split(true, maxsplit=1), _QUERY.split(told, maxsplit=1)
    names, masks = _USER.findall(true_path), _USER.findall(told_path)
    if len(names) != len(masks):
        return False
    for (_, name), (_, mask) in zip(names, masks, strict=True):
        if name != mask and not all(map(is_mask, mask.split(":"))):
            return False
    # 2. The path and its parameters; then those of query and fragment.
    true_path, told_path = _USER.sub(r"\1", true_path), _USER.sub(r"\1", told_path)
    pairs = list(zip_longest(_STEP.split(true_path), _STEP.split(told_path)))
    for one, other in zip_longest(true_query, told_query):
        if one is None or other is None:
            return False
        pairs += zip_longest(_SEPARATOR.split(one), _SEPARATOR.split(other))
    return all(one == other or (one and other and _same_parameter(one, other)) for one, other in pairs)


def _same_parameter(true: str, told: str) -> bool:
    (true_name, _, true_value), (told_name, _, told_value) = true.partition("="), told.partition("=")
    if true_name != told_name or not true_value:
        return False
    # the value may be a URL, of which all or the secret part is hidden
    may_be = may_be_hidden(unquote(true_name)) or may_be_hidden(true_value) or "@" in true_value
    return (may_be and is_mask(told_value)) or ("//" in true_value and same_url(true_value, told_value))
