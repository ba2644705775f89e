"""Plain data that is written to disk and read back."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen, strict plain data."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="null",
        json_schema_serialization_defaults_required=True,
    )
