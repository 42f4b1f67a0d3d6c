"""The errors of a JSON Schema in an adapter file as sentences: the key, its value, and what it has to be. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

_CASE_ID = "[A-Z]+-[0-9]{2}"
_KINDS = {
    "object": "a table",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}


def sentences(error: Any) -> Iterator[str]:
    """`error` is a jsonschema ValidationError (untyped there)."""
    at = [str(part) for part in error.absolute_path]
    value, wanted = error.instance, error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in wanted if name not in value]
            # jsonschema has one error for each missing key, and names the key only in its message
            yield from (f"{_key([*at, name])}: is missing" for name in missing if repr(name) in error.message)
        case "additionalProperties" if wanted is False:
            known = error.schema.get("properties", {})
            for name in [name for name in value if name not in known]:
                near = difflib.get_close_matches(name, known, 1)
                instead = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                yield f"{_key([*at, name])}: is no key of the contract; {instead}"
        case "oneOf" | "anyOf":
            allowed = " or ".join(_described(schema) for schema in wanted)
            yield f"{_key(at)}: is {_shown(value)}, and has to be {allowed}"
        case "uniqueItems":
            twice = sorted({_shown(entry) for entry in value if value.count(entry) > 1})
            yield f"{_key(at)}: names {', '.join(twice)} more than once"
        case "minItems" | "minLength":
            yield f"{_key(at)}: is empty"
        case "exclusiveMinimum":
            yield f"{_key(at)}: is {_shown(value)}, and has to be more than {wanted}"
        case "maximum":
            yield f"{_key(at)}: is {_shown(value)}, and may be {wanted} at most"
        case "pattern" if _CASE_ID in wanted:
            yield f"{_key([*at, str(value)])}: is no case's id like CAP-01"
        case _:
            yield f"{_key(at)}: is {_shown(value)}, and has to be {_described(error.schema)}"


def _key(parts: list[str]) -> str:
    return ".".join(parts) or "the file"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _described(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "required" in schema:
        inner = ", ".join(f"{name} = …" for name in schema["required"])
        return f"{{ {inner} }}"
    if "$ref" in schema:
        return "a list of texts"
    kind = _KINDS.get(str(schema.get("type")), "something else")
    return f"{kind} like {schema['pattern']}" if "pattern" in schema else kind
