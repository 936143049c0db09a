"""README.md against the code: its reference of the configuration names every key and default."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tallynode.config import Mesh
from tallynode.config_bench import BenchFile

README = Path(__file__).parents[1] / "README.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, or a list of which it holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [section_of(inner) for inner in get_args(annotation)]
    return next((section for section in found if section), None)


def keys(
    section: type[BaseModel], at: str = "", stated: object = None
) -> Iterator[tuple[str, str]]:
    """Every key with its default as YAML has it; empty where there is none."""
    for key, field in section.model_fields.items():
        default = getattr(stated, key, field.get_default(call_default_factory=True))
        inner = section_of(field.annotation)
        if inner is None:
            yield at + key, written(default, field)
        else:
            many = "[]" if field.annotation is not inner and field.is_required() else ""
            yield from keys(inner, f"{at}{key}{many}.", default)


def written(default: object, field: FieldInfo) -> str:
    """A default as a person writes it; what is required, None or empty has none."""
    if default in (None, (), {}, PydanticUndefined):
        return ""
    if any(isinstance(of, PlainSerializer) for of in field.metadata):
        return f"{default:g}s"
    return str(default).lower() if isinstance(default, bool) else str(default)


@pytest.mark.parametrize(("root", "table"), [(Mesh, 0), (BenchFile, 1)])
def test_the_reference_names_every_key_and_its_default(root: type[BaseModel], table: int) -> None:
    """In the order of the code or not: no key is missing, none is gone, no default is another."""
    text = README.read_text(encoding="utf-8")
    reference = text.partition("## topology.yaml, key by key\n")[2].partition("\n## ")[0]
    stated = dict(ROW.findall(reference.split("\nA bench file")[table]))
    expected = dict(keys(root))
    assert set(stated) == set(expected)
    for key, default in expected.items():
        in_code = re.fullmatch("`(.+)`", stated[key])
        assert (in_code[1] if in_code else "") == default, key
