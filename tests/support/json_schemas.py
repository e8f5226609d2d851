"""Fifty JSON schemas, one or more of each keyword that people use, with texts that fit and texts that do not.

Written anew along the chapters of the public JSON-Schema-Test-Suite; a text is as a model would write it.
"""

from __future__ import annotations

from typing import Any

# (schema, texts that fit, texts that do not)
Case = tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _array(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


STRING, INTEGER, NUMBER, BOOLEAN, NULL = (
    {"type": name} for name in ("string", "integer", "number", "boolean", "null")
)
POINT = _object({"x": NUMBER, "y": NUMBER}, required=["x", "y"])
NODE = _object({"v": INTEGER, "next": {"anyOf": [{"$ref": "#/$defs/node"}, NULL]}}, required=["v", "next"])

CASES: tuple[Case, ...] = (
    (STRING, ('""', '"a b"', '"a\\n"', '"Zoë 🙂"'), ("1", "a", '"', '"\n"')),
    (INTEGER, ("0", "-7", "123456789"), ("1.5", "01", "-", '"1"')),
    (NUMBER, ("0", "-1.25", "1e3", "2.5E-7"), (".5", "1.", "+1", "NaN")),
    (BOOLEAN, ("true", "false"), ("True", "1", "null")),
    (NULL, ("null",), ("None", "0", '""')),
    ({"type": "object"}, ("{}", '{"a": 1}', '{"a": {"b": []}}'), ("[]", "{a: 1}", '{"a"}')),
    ({"type": "array"}, ("[]", '[1, "a", null]', "[[]]"), ("{}", "[1,]", "[")),
    ({"type": ["string", "null"]}, ('"a"', "null"), ("1", "true")),
    ({"type": ["integer", "boolean"]}, ("3", "true"), ('"3"', "null")),
    ({"enum": ["red", "green", 3, None]}, ('"red"', "3", "null"), ('"blue"', "4", "red")),
    ({"enum": [True, [1, 2], {"a": 1}]}, ("true", "[1,2]"), ("false", "[2,1]")),
    ({"const": "only"}, ('"only"',), ('"other"', "only")),
    ({"const": {"a": [1]}}, ('{"a":[1]}',), ('{"a":[2]}', "{}")),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ('"ab"', '"abc"', '"äöü"'), ('"a"', '"abcd"')),
    ({"type": "string", "minLength": 1}, ('"a"',), ('""',)),
    ({"type": "string", "maxLength": 0}, ('""',), ('"a"',)),
    ({"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"}, ('"AB1"', '"ZZ900"'), ('"A1"', '"ab1"', '"AB"')),
    ({"type": "string", "pattern": "^(foo|bar)-\\d$"}, ('"foo-1"', '"bar-9"'), ('"baz-1"', '"foo-12"')),
    ({"type": "string", "format": "date"}, ('"2026-11-29"',), ('"29.11.2026"', '"2026-13-01"')),
    ({"type": "string", "format": "time"}, ('"12:30:00Z"',), ('"25:00:00Z"', '"noon"')),
    ({"type": "string", "format": "email"}, ('"a@b.org"',), ('"a.b.org"', '"@"')),
    ({"type": "string", "format": "ipv4"}, ('"127.0.0.1"',), ('"256.1.1.1"', '"1.2.3"')),
    (
        {"type": "string", "format": "uuid"},
        ('"01234567-89ab-cdef-0123-456789abcdef"',),
        ('"01234567"', '"g1234567-89ab-cdef-0123-456789abcdef"'),
    ),
    ({"type": "integer", "minimum": 3, "maximum": 12}, ("3", "10", "12"), ("2", "13", "-3")),
    ({"type": "integer", "exclusiveMinimum": 0}, ("1", "99"), ("0", "-1")),
    ({"type": "integer", "multipleOf": 5}, ("0", "10", "25"), ("3", "11")),
    ({"type": "number", "minimum": 0, "maximum": 1}, ("0", "0.5", "1"), ("1.5", "-0.1", "2")),
    (_array(INTEGER), ("[]", "[1]", "[1, 2, 3]"), ('["a"]', "[1 2]", "[1.5]")),
    (_array(STRING, minItems=1), ('["a"]', '["a", "b"]'), ("[]", "[1]")),
    (_array(INTEGER, minItems=2, maxItems=3), ("[1, 2]", "[1, 2, 3]"), ("[1]", "[1, 2, 3, 4]")),
    (_array(_array(BOOLEAN)), ("[[]]", "[[true], [false, true]]"), ("[true]", "[[1]]")),
    (
        {"type": "array", "prefixItems": [INTEGER, STRING], "items": False},
        ('[1, "a"]',),
        ('["a", 1]', '[1, "a", 2]'),
    ),
    (_array({"enum": ["x", "y"]}, maxItems=2), ("[]", '["x", "y"]'), ('["z"]', '["x", "x", "x"]')),
    (_object({}), ("{}",), ('{"a": 1}',)),
    (_object({"a": INTEGER}), ("{}", '{"a": 1}'), ('{"b": 1}', '{"a": "1"}')),
    (_object({"a": INTEGER}, required=["a"]), ('{"a": 1}',), ("{}", '{"a": null}')),
    (
        _object({"name": STRING, "age": INTEGER}, required=["name", "age"]),
        ('{"name": "Ada", "age": 36}', '{"name":"","age":0}'),
        ('{"name": "Ada"}', '{"age": 36}', '{"name": 1, "age": 36}'),
    ),
    (_object({"p": POINT}, required=["p"]), ('{"p": {"x": 1, "y": -2.5}}',), ('{"p": {"x": 1}}', '{"p": 1}')),
    (_array(POINT, minItems=1), ('[{"x": 0, "y": 0}]',), ("[]", '[{"x": 0}]')),
    ({"type": "object", "additionalProperties": INTEGER}, ("{}", '{"k": 1}'), ('{"k": "v"}', '{"k": 1.5}')),
    (
        {"type": "object", "properties": {"id": INTEGER}, "required": ["id"]},
        ('{"id": 1}', '{"id": 1, "more": [true]}'),
        ('{"id": "1"}', "{}"),
    ),
    ({"anyOf": [INTEGER, STRING]}, ("1", '"a"'), ("null", "[1]")),
    ({"anyOf": [POINT, _array(NUMBER)]}, ('{"x": 1, "y": 2}', "[1, 2.5]"), ('{"x": 1}', "1")),
    (
        {
            "oneOf": [
                _object({"k": {"const": "a"}}, required=["k"]),
                _object({"k": {"const": "b"}}, required=["k"]),
            ]
        },
        ('{"k": "a"}', '{"k": "b"}'),
        ('{"k": "c"}', "{}"),
    ),
    ({"allOf": [INTEGER, {"minimum": 5}]}, ("5", "60"), ("4", '"5"')),
    (
        {"$ref": "#/$defs/short", "$defs": {"short": {"type": "string", "maxLength": 2}}},
        ('"ab"',),
        ('"abc"', "1"),
    ),
    (
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        ('{"v": 1, "next": null}', '{"v": 1, "next": {"v": 2, "next": null}}'),
        ('{"v": 1}', '{"v": 1, "next": 2}'),
    ),
    (
        {"$defs": {"tree": _array({"$ref": "#/$defs/tree"})}, "$ref": "#/$defs/tree"},
        ("[]", "[[], [[]]]"),
        ("[1]", "{}"),
    ),
    (
        _object({"tags": _array(STRING, maxItems=2), "ok": BOOLEAN}, required=["tags", "ok"]),
        ('{"tags": [], "ok": true}', '{"tags": ["a"], "ok": false}'),
        ('{"tags": ["a", "b", "c"], "ok": true}', '{"tags": []}'),
    ),
    (
        _object(
            {"kind": {"enum": ["circle", "square"]}, "size": {"type": "number", "exclusiveMinimum": 0}},
            required=["kind", "size"],
        ),
        ('{"kind": "circle", "size": 1.5}',),
        ('{"kind": "line", "size": 1}', '{"kind": "circle", "size": -1}'),
    ),
)
