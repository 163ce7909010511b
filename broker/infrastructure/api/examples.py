"""Examples of requests and responses, for the OpenAPI document.

An example follows the schema of its model. The values of fields come from `example_values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from broker.infrastructure.api.endpoint import Schema
from broker.infrastructure.api.example_values import ID, MODEL_VALUES, PATH_VALUES, VALUES

NO_VALUE = "string"
"""The value of a text field that the table does not have."""

SCHEMA_VALUES: Mapping[str, Any] = {
    "string": NO_VALUE,
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "object": {},
    "null": None,
}


class Examples(NamedTuple):
    """definitions: the schemas of models by name.

    is_request: whether optional fields are left out, apart from those of `MODEL_VALUES`.
    """

    definitions: Mapping[str, Schema]
    is_request: bool

    def of(self, schema: Schema, model: str = "", field: str = "") -> Any:
        """Return an example of the schema, which may be that of a field of a model."""
        if f"{model}.{field}" in MODEL_VALUES:
            return MODEL_VALUES[f"{model}.{field}"]
        reference = schema.get("$ref", "").rpartition("/")[2]
        if reference:
            return self.of(self.definitions[reference], reference, field)
        if "properties" in schema:
            return self._object(schema, model)
        if "$ref" in schema.get("items", {}):
            return [self.of(schema["items"])]
        return self._value(schema, model, field)

    def _object(self, schema: Schema, model: str) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.of(part, model, name)
            for name, part in schema["properties"].items()
            if not self.is_request or name in required or f"{model}.{name}" in MODEL_VALUES
        }

    def _value(self, schema: Schema, model: str, field: str) -> Any:
        if "enum" in schema:
            return VALUES[field] if VALUES.get(field) in schema["enum"] else schema["enum"][0]
        if field in VALUES:
            return VALUES[field]
        if "anyOf" in schema:
            return self.of(schema["anyOf"][0], model, field)
        if "default" in schema:
            return schema["default"]
        if "items" in schema:
            return [self.of(schema["items"], model, field)]
        return schema.get("minimum", SCHEMA_VALUES[schema.get("type", "null")])


def path_example(tag: str, name: str) -> Any:
    """Return an example of a path parameter."""
    return PATH_VALUES.get(tag, {}).get(name, VALUES.get(name, ID))
