"""Fields of a request that are taken in more than one way. Pure; what is not taken raises pydantic's errors."""

from typing import Annotated, Any

from pydantic import Field

from lowtide.tasks.wire.invalid import unexpected

GS = "gs://"
GENERATION_MAX_DIGITS = 18
WHOLE_MAX_BITS = 3400
"""Of a number that is an id: its digits are an attribute."""

RequestId = Annotated[str, Field(min_length=1)] | int
Generation = (
    Annotated[str, Field(max_length=GENERATION_MAX_DIGITS, pattern="^0*[1-9][0-9]*$")]
    | Annotated[int, Field(ge=1, lt=10**GENERATION_MAX_DIGITS)]
)
"""Cloud Storage writes its numbers as text."""


def generation_of(value: object) -> str:
    """The digits of a `Generation`."""
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= GENERATION_MAX_DIGITS
    number = int(value) if is_text else whole(value)  # type: ignore[call-overload]
    if number is None or not 0 < number < 10**GENERATION_MAX_DIGITS:
        raise unexpected()
    return str(number)


def id_in_words(value: object) -> object:
    """A number of a `RequestId` as text; all else as it is."""
    return value if (number := whole(value)) is None else str(number)


def whole(value: object) -> int | None:
    """The whole number that JSON's 4711 and 4711.0 are; None for anything else, and for one of too many digits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() > WHOLE_MAX_BITS:
        return None
    return value


def is_gs(uri: str | None) -> bool:
    """True for a URI of an object in Cloud Storage."""
    return (uri or "")[: len(GS)].lower() == GS


def nulls_are_absent(schema: dict[str, Any]) -> None:
    """Has a JSON Schema say so: any optional field may be null, and what is no field as well."""
    schema["additionalProperties"] = {"type": "null"}
    for name, field in schema["properties"].items():
        if name not in schema["required"] and {"type": "null"} not in field.get("anyOf", ()):
            kind = {key: field.pop(key) for key in ("type", "$ref", "additionalProperties") if key in field}
            field["anyOf"] = [kind, {"type": "null"}]
