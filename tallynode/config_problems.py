"""What pydantic found wrong with the data of a file, as lines that a person reads."""

from typing import NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tallynode.config_yaml import Document, Problem, Where, dotted, nearest

_MAPPING = "should be a mapping (key: value)"
_WORDS = {  # pydantic's kinds of errors, as a person who writes YAML would say them
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "string_type": "should be text",
    "tuple_type": "should be a list",
    "dict_type": _MAPPING,
    "path_type": "should be the path of a folder",
    "too_short": "should not be empty",
}


class Finding(NamedTuple):
    """One thing that is wrong, and where in the data."""

    where: Where
    why: str
    at: str = "value"  # value | key | around, for a key that is not there

    def problem(self, document: Document) -> Problem:
        """The same at its place in the file."""
        if self.at == "value":
            mark = document.value_mark(self.where)
        else:
            mark = document.key_mark(self.where if self.at == "key" else self.where[:-1])
        return Problem(mark, dotted(self.where), self.why)


def findings(error: ValidationError, root: type[BaseModel]) -> list[Finding]:
    """Everything that is wrong with the data that `root` should have been built from."""
    return [found for detail in error.errors(include_url=False) for found in _read(detail, root)]


def _read(detail: ErrorDetails, root: type[BaseModel]) -> list[Finding]:
    where: Where = detail["loc"]
    kind = detail["type"]
    why = _WORDS.get(kind) or detail["msg"].replace("Input should", "should")
    if kind == "problems":
        return [Finding((*where, *place), why) for place, why in detail["ctx"]["problems"]]
    if kind == "extra_forbidden":
        known = _keys_of(root, where[:-1])
        close = nearest(str(where[-1]), known) or ", known are: " + ", ".join(known)
        return [Finding(where, f"unknown key{close}", "key")]
    if kind == "missing":
        return [Finding(where, "is missing", "around")]
    if kind == "too_short" and detail["input"]:
        return []  # it has items, and what is wrong with each is said at its own place
    if kind == "model_type":
        why = _MAPPING if where else "the file should be a mapping"
    elif kind == "literal_error":
        allowed = [
            word.strip("' ")
            for word in why.removeprefix("should be").replace(" or ", ",").split(",")
        ]
        why = f"{why}, not {_shown(detail['input'])}{nearest(str(detail['input']), allowed)}"
    elif kind != "refused" and not isinstance(detail["input"], dict | list):
        why = f"{why}, not {_shown(detail['input'])}"
    return [Finding(where, why)]


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)


def _keys_of(root: type[BaseModel], where: Where) -> list[str]:
    section = root
    for part in where:
        if isinstance(part, str):
            annotation = section.model_fields[part].annotation
            inner = [annotation, *get_args(annotation)]
            section = next(t for t in inner if isinstance(t, type) and issubclass(t, BaseModel))
    return list(section.model_fields)
