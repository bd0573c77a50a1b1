"""What all parts of the contract share."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Frozen, and strict about unknown fields, so that a misspelt one is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
