"""What gives an instance of a user's class another shape, as plain data."""

from typing import Any

from pydantic import Field

from lilliput.record import Record

Value = bool | int | float | str | None | list[Any]


class ModuleSpec(Record):
    """A module that the user's class does not have.

    Attributes:
        kind: Qualified name of its class, of torch or of ours.
        copy_of: Name of a module of the user's class that it is a copy of, whatever its class; then
            nothing else is said here.
        attributes: Its plain attributes.
        parameters: Names of its parameters; their shapes come with the weights.
        buffers: Names of its buffers that are saved.
        modules: What it is made of.
    """

    kind: str
    copy_of: str = ""
    attributes: dict[str, Value] = Field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    modules: dict[str, "ModuleSpec"] = Field(default_factory=dict)


class Edits(Record):
    """Changes of an instance of the user's class; new shapes of weights come with the weights.

    Attributes:
        attributes: Module -> attribute -> its value: ``num_heads``, ``groups``, ``in_features``;
            ``config.num_layers`` for one of its configuration.
        modules: Modules in the place of others, or beside them.
        removed: Modules that are gone.
    """

    attributes: dict[str, dict[str, Value]] = Field(default_factory=dict)
    modules: dict[str, ModuleSpec] = Field(default_factory=dict)
    removed: tuple[str, ...] = ()
