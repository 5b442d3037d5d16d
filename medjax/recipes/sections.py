"""A config's sections as records: read once, where they enter."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Record = TypeVar("Record")


def read_section(record: type[Record], name: str, section: Mapping[str, Any]) -> Record:
    """A section as a NamedTuple; a record's defaults stand for what it leaves out.

    A field whose type is a NamedTuple is itself read from a section, NAME.FIELD; one
    whose type is `Mapping[str, SomeNamedTuple]` from a table of sections,
    NAME.FIELD.KEY. Either may be None where the type says so. Lists become tuples,
    also inside of mappings. Types of numbers and words are not checked: the config
    did that when it was made.

    Args:
        record: Its fields without a default are the options that a section must have.
        name: The section's dotted name, as on the command line behind `--config.`;
            errors begin with it.
        section: The options by name, of a config or of the copy of one that a manifest
            holds.

    Raises:
        ValueError: An option is unknown (the closest known one is named) or missing, or
            a value stands where a section is expected.
    """
    return read_sections((record,), name, section)[0]


def read_sections(
    records: Sequence[type[Any]], name: str, section: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Several records from one section, each option going to those that have it.

    So a section may hold what all stages of a kind have and what is a system's own.

    Args:
        records: Their fields without a default are the options that the section must
            have.
        name: The section's dotted name; errors begin with it.
        section: The options by name; each must be a field of some record.

    Raises:
        ValueError: See `read_section`.
    """
    if not isinstance(section, Mapping):
        raise ValueError(
            f'config section "{name}": expected options, found {section!r}'
        )
    known = [option for record in records for option in record._fields]
    defaults = [option for record in records for option in record._field_defaults]
    unknown = [_unknown(option, known) for option in section if option not in known]
    required = [option for option in known if option not in defaults]
    missing = [f'"{option}"' for option in required if option not in section]
    faults = [f"no option {', '.join(unknown)}"] if unknown else []
    faults += [f"missing {', '.join(missing)}"] if missing else []
    if faults:
        raise ValueError(f'config section "{name}": {"; ".join(faults)}')
    return tuple(_fill(record, name, section) for record in records)


def plain(value: Any) -> Any:  # noqa: ANN401
    """Records as a JSON document: dicts of their fields, all the way down.

    Args:
        value: Any value; lists and tuples are left as they are, records in them too.
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value


def _fill(record: type[Any], name: str, section: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(record)
    return record(
        **{
            field: _value(hints[field], f"{name}.{field}", section[field])
            for field in record._fields
            if field in section
        }
    )


def _unknown(option: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(option, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"expected: {', '.join(known)}"
    return f'"{option}" ({hint})'


def _value(hint: Any, name: str, value: Any) -> Any:
    """One option: a record, a table of records, or a plain value without lists."""
    choices = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in choices:
        return None
    for choice in choices:
        if _is_record(choice):
            return read_section(choice, name, value)
        of = typing.get_args(choice)
        if typing.get_origin(choice) is Mapping and _is_record(of[1]):
            if not isinstance(value, Mapping):
                raise ValueError(
                    f'config section "{name}": expected sections, found {value!r}'
                )
            return {k: read_section(of[1], f"{name}.{k}", x) for k, x in value.items()}
    return _without_lists(value)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "_field_defaults")


def _without_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_lists(x) for key, x in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(map(_without_lists, value))
    return value
