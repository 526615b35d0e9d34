"""The service as an OpenAPI document, for clients that are made by machine."""

from __future__ import annotations

from spic.cloud.limits import KEY_BYTES, Limits
from spic.protocol import HEALTH, IDEMPOTENCY_KEY, METRICS, POINTS, PREDICT, STREAM

_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number", "minimum": 0}, {"type": "integer", "minimum": 0}


def _object(properties: dict, required: bool = True) -> dict:
    return {"type": "object", "properties": properties, **({"required": list(properties)} if required else {})}


def _list(items: dict) -> dict:
    return {"type": "array", "items": items}


_CLASSIFIED = _object({"top": _list(_object({"class": _WHOLE, "name": _TEXT, "score": {**_NUMBER, "maximum": 1}}))})
_MAPPED = _object(
    {"classes": _list(_TEXT), "map": {**_TEXT, "contentEncoding": "base64", "contentMediaType": "image/png"}}
)
_SCHEMAS = {
    "Error": _object({"error": _TEXT}),
    "Answer": {"oneOf": [_CLASSIFIED, _MAPPED]},
    "Prediction": _object(
        {
            "point": _TEXT,
            "answers": _list({"$ref": "#/components/schemas/Answer"}),
            "milliseconds": {"type": "object", "additionalProperties": _NUMBER},
        }
    ),
    "Points": _object(
        {
            "points": _list(
                _object(
                    {
                        "name": _TEXT,
                        "task": _TEXT,
                        "benchmark": _TEXT,
                        "coder": _TEXT,
                        "table": _TEXT,
                        "shape": _list(_WHOLE),
                        "image_size": _list(_WHOLE),
                    }
                )
            )
        }
    ),
    "Health": _object({"status": {"const": "ok"}}),
}
_WHY = {
    400: "The stream or the key is damaged",
    401: "The token is missing or wrong",
    408: "The request took too long to arrive",
    413: "More bytes or pictures than are taken",
    415: "Another Content-Type",
    421: "The server is called by another name",
    422: "A point, coder or table that is not served; the error says both sides",
}


def document(limits: Limits) -> dict:
    """The OpenAPI 3.1 document of a server with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "spic cloud", "version": "1", "description": "Streams of split networks in, answers out."},
        "paths": {
            PREDICT: {"post": _predict(limits)},
            POINTS: {"get": _get("The operating points that are served", "Points")},
            HEALTH: {"get": {**_get("Whether requests are answered", "Health"), "security": []}},
            METRICS: {
                "get": {
                    "summary": "Counters for Prometheus",
                    "responses": {
                        "200": {"description": "Text", "content": {"text/plain": {"schema": _TEXT}}},
                        **_errors(401, 421),
                    },
                }
            },
        },
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


def _predict(limits: Limits) -> dict:
    key = {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "required": False,
        "description": "The same when a request is sent again",
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES, "pattern": "^[ -~]+$"},
    }
    body = {
        "required": True,
        "content": {STREAM: {"schema": {"type": "string", "format": "binary", "maxLength": limits.body_bytes}}},
    }
    return {
        "summary": "Answer the pictures of one stream",
        "parameters": [key],
        "requestBody": body,
        "responses": {
            "200": _answer("The answers, in order", "Prediction"),
            **_errors(400, 401, 408, 413, 415, 421, 422),
            "503": {**_answer("Too much waits already", "Error"), "headers": {"Retry-After": {"schema": _WHOLE}}},
        },
    }


def _get(summary: str, schema: str) -> dict:
    return {"summary": summary, "responses": {"200": _answer(summary, schema), **_errors(401, 421)}}


def _answer(description: str, schema: str) -> dict:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _errors(*statuses: int) -> dict:
    return {str(status): _answer(_WHY[status], "Error") for status in statuses}
