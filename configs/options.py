"""Options that the command line writes in a form of their own: lists, words, `None`.

ml_collections reads numbers, strings, switches and dicts by the type of the default.
For the rest a config gives the default and its form: `option(None, Maybe(int))`.
"""

from typing import Any, NamedTuple, Protocol

from absl import flags
from ml_collections import FieldReference, config_flags

Values = str | int | float | bool | tuple[Any, ...] | None


class Form(Protocol):
    """How the text behind `--config.NAME=` is read. It is hashable: a flag's type."""

    def read(self, text: str) -> Values:
        """The value; raises ValueError that says what was expected."""
        ...


class Numbers(NamedTuple):
    """Several numbers: `112,112`, `(112, 112)`, `inf,inf`. None of them: `()`."""

    kind: type[int] | type[float]
    counts: tuple[int, ...] = ()  # how many there may be; any number where empty

    def read(self, text: str) -> tuple[int | float, ...]:
        """A tuple, also of one number."""
        parts = _split(text)
        try:
            numbers = tuple(self.kind(part) for part in parts)
        except ValueError:
            numbers = None
        if numbers is None or self.counts and len(numbers) not in self.counts:
            count = " or ".join(map(str, self.counts))
            kind = {int: "whole numbers", float: "numbers"}[self.kind]
            raise ValueError(
                f"expected {count} {kind} joined by commas".replace("  ", " ")
            )
        return numbers


class Words(NamedTuple):
    """A word, or several: `left insula,right insula`. None of them: `()`."""

    listed: bool = False  # whether one word too is a tuple, of one

    def read(self, text: str) -> str | tuple[str, ...]:
        """One word as it is unless `listed`, several as a tuple."""
        words = tuple(_split(text))
        return words[0] if len(words) == 1 and not self.listed else words


class Maybe(NamedTuple):
    """A value, or `None`."""

    kind: type[int] | type[float] | type[bool]

    def read(self, text: str) -> int | float | bool | None:
        """The value."""
        word = text.strip().lower()
        if word == "none":
            return None
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[word]
            return self.kind(word)
        except (KeyError, ValueError):
            names = {int: "a whole number", float: "a number", bool: "True or False"}
            raise ValueError(f"expected {names[self.kind]}, or None") from None


def _split(text: str) -> list[str]:
    """The parts between commas, in brackets and quotes or without."""
    parts = text.strip().removeprefix("(").removesuffix(")").split(",")
    return [part.strip(" '\"") for part in parts if part.strip(" '\"")]


class Option(FieldReference):
    """A config's value with a form: the form takes the place of its type."""

    def __init__(self, default: Values, form: Form) -> None:
        self.form = form
        super().__init__(default, field_type=object)

    def get_type(self) -> Form:
        """What ml_collections chooses the flag's parser by."""
        return self.form


class FormParser(flags.ArgumentParser):
    """A form as absl asks for it; absl names the option of a value that is refused."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def parse(self, argument: Values) -> Values:
        """Text is read; a default comes as it is."""
        return self.form.read(argument) if isinstance(argument, str) else argument


def option(default: Values, form: Form) -> Option:
    """A default, and the form that others are written in."""
    config_flags.register_flag_parser_for_type(form, FormParser(form))
    return Option(default, form)
