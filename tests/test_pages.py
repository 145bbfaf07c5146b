"""What the HTML pages share."""

import json
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from instar.pages import script_json, template


def test_a_template_escapes_includes_and_refuses(tmp_path: Path) -> None:
    (tmp_path / "page.html.jinja").write_text("<p>{{ text }} {{ count | number }}</p>{% include 'beside.css' %}\n")
    (tmp_path / "beside.css").write_text("p { margin: 0 }")
    page = template(tmp_path / "page.html.jinja")
    assert page.render(text="<b>", count=1200) == "<p>&lt;b&gt; 1,200</p>p { margin: 0 }"
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        page.render(count=1)


def test_no_text_ends_the_script() -> None:
    given = {"name": "</script><b>ü", "none": None}
    text = script_json(given)
    assert "<" not in text and "ü" in text
    assert json.loads(text) == given
    assert script_json([]) == "[]"
    with pytest.raises(ValueError, match="JSON"):
        script_json([float("nan")])
