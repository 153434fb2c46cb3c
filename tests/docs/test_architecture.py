"""The page on architecture: its picture is drawn from the imports, and what it names is there."""

import re

import pytest

import architecture
from source_tree import CPP, PACKAGE, PARTS, ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_the_picture_is_drawn_from_the_imports():
    drawn = architecture.PICTURE.read_text("utf-8")
    assert drawn == architecture.picture(), "run: python docs/architecture.py"


def test_the_orders_on_the_page_are_those_that_are_checked():
    quotes = re.findall(r"(?:^> .*\n)+", PAGE, re.MULTILINE)
    inside = [room for floor in architecture.OPTIMIZERS for room in floor]
    parts = [part for part in architecture.ORDER if part != "__main__"]
    assert [re.findall(r"`(\w+)`", quote) for quote in quotes] == [parts, inside]


@pytest.mark.parametrize("part", sorted(PARTS - {"__init__"}))
def test_every_part_has_its_line(part):
    table = PAGE[PAGE.index("## What is where") : PAGE.index("## One step")]
    folder = "/" if (PACKAGE / part).is_dir() else ""
    assert f"`{part}{folder}`" in table


FILES = sorted(set(re.findall(r"`([\w/]+\.(?:py|hpp|cpp|def))`", PAGE)))


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_the_page_names_is_there(name):
    places = [ROOT, PACKAGE, CPP, CPP / "bind", PACKAGE / "schedules", PACKAGE / "training"]
    places += [PACKAGE / "optimizers"]
    assert any((place / name).is_file() for place in places)
