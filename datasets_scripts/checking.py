"""Files and settings that people write are checked by pydantic; an error names the place, the field and the value."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_type_hints

from datasets import BuilderConfig
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from datasets_scripts.commands import nearest
from model_cards.secrets import without_secrets
from modeling_vmhan.values import WHOLE_CHARACTERS, shown, whole_text


__all__ = ["Box", "Record", "Span", "StrictRecord", "check_config", "checked"]

STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)  # nothing is converted
PREFIX = re.compile("^(Input|Value) should (be|have) ")

Span = Annotated[Sequence[int], Field(min_length=2, max_length=2)]  # [start, end)
Box = Annotated[Sequence[float], Field(min_length=4, max_length=4)]


class Record(BaseModel):
    """A line of a file; fields that are not declared are let through."""

    model_config = STRICT


class StrictRecord(Record):
    """A line of a file that may have the declared fields only; one that is null counts as left out."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = list(cls.model_fields)
        for name in value:
            if name not in known:
                problem = f"fields among {known}, not {shown(name)}{nearest(str(name)[:80], known)}"
                raise PydanticCustomError("unknown", "{problem}", {"problem": problem})
        return {name: content for name, content in value.items() if content is not None}


def checked(form: Any, value: Any, place: str) -> Any:
    """`value` as `form`, a type or record that pydantic can check, has it; or a ValueError that begins with `place`,
    such as "FILE, line NUMBER", and names the field, what was expected and what was received. Surrogates are paired.
    """
    value = _whole_texts(value, place)
    is_record = isinstance(form, type) and issubclass(form, BaseModel)
    check = form.model_validate if is_record else TypeAdapter(form, config=STRICT).validate_python
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError(_explained(error, value, place)) from None


def check_config(config: Any) -> None:
    """ValueError on a field of a dataclass that breaks its annotation.

    A builder calls it in `_info`, since `datasets` sets the fields of its config one by one.
    """
    hints = get_type_hints(type(config), include_extras=True)
    inherited = {field.name for field in dataclasses.fields(BuilderConfig)}
    for name in [field.name for field in dataclasses.fields(config) if field.name not in inherited]:
        checked(hints[name], getattr(config, name), name)


def _explained(error: ValidationError, value: Any, place: str) -> str:
    """The first problem in a sentence; where a value may be of several types, all of these are named."""
    problems = [(*_walked(value, problem["loc"]), problem) for problem in error.errors(include_url=False)]
    path, received, first = problems[0]
    messages = [PREFIX.sub("", problem["msg"]) for at, _, problem in problems if at == path]
    expected = (
        f"the field {first['loc'][-1]!r}" if first["type"] == "missing" else " or ".join(dict.fromkeys(messages))
    )
    where = f"{place}, field {path!r}" if path else place
    return f"{where}: expected {expected}, received {without_secrets(shown(received))}"


def _whole_texts(value: Any, place: str, path: str = "") -> Any:
    """The value with the surrogates of its texts paired: json.dumps writes an emoji as two, which Python keeps."""
    try:
        if type(value) is dict:
            names = {name: _whole_texts(name, place, path) for name in value}
            return {names[name]: _whole_texts(of, place, f"{path}.{name}".strip(".")) for name, of in value.items()}
        if type(value) in (list, tuple):
            return type(value)(_whole_texts(of, place, f"{path}[{i}]") for i, of in enumerate(value))
        return whole_text(str.__str__(value)) if issubclass(type(value), str) else value
    except UnicodeError:
        where = f"{place}, field {path!r}" if path else place
        raise ValueError(f"{where}: expected {WHOLE_CHARACTERS}, received {shown(value)}") from None
    except RecursionError:
        raise ValueError(f"{place}: expected a value that can be read, received one nested too deeply") from None


def _walked(value: Any, loc: Sequence[int | str]) -> tuple[str, Any]:
    """A location of pydantic's as "pairs[0].head", and the value there; the types in it are left out."""
    path = ""
    for part in loc:
        if issubclass(type(value), Mapping) and part in value:
            path, value = f"{path}.{part}".removeprefix("."), value[part]
        elif isinstance(part, int) and issubclass(type(value), Sequence) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
    return path, value
