"""The page of the schedules is what the schedules say, and its pictures are what they do."""

import re
import runpy
from pathlib import Path

import pytest

from lit_optim import schedules
from lit_optim.schedules import Schedule

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    runpy.run_path(str(DOCS / "draw_schedules.py"))["write"](folder)
    return folder


def test_the_page_is_up_to_date(anew: Path) -> None:
    text = (DOCS / "schedules.md").read_text(encoding="utf-8")
    assert text == (anew / "schedules.md").read_text(encoding="utf-8"), "run python docs/draw_schedules.py"
    assert not re.search(r"``[^`]|:math:|\.\. math", re.sub("```", "", text))


def test_every_schedule_has_its_section_and_picture(anew: Path) -> None:
    public = [getattr(schedules, name) for name in schedules.__all__]
    named = {one.__name__ for one in public if isinstance(one, type) and issubclass(one, Schedule)} - {"Schedule"}
    text = (DOCS / "schedules.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == named
    assert {path.stem for path in (DOCS / "schedules").iterdir()} == named


def test_the_pictures_show_the_curves_as_they_are_now(anew: Path) -> None:
    for path in (anew / "schedules").iterdir():
        drawn, kept = (
            re.findall(r"<dc:description>(\w{64})</dc:description>", one.read_text(encoding="utf-8"))
            for one in (path, DOCS / "schedules" / path.name)
        )
        assert drawn == kept != [], f"{path.name}: run python docs/draw_schedules.py"
