"""The base of every model in the contract."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A model that knows its fields, refuses others, and never carries NaN or infinity."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        # What is written always holds every field, so the schema of what is written says so.
        json_schema_serialization_defaults_required=True,
    )
