"""What the HTML pages share: how their templates are read, and data that a page's script reads."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


def template(path: Path) -> "Template":
    """A page's template, which escapes texts, refuses a name that nobody gave and includes files beside it.

    Its filter ``number`` writes a number with commas between thousands.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    return environment.get_template(path.name)


def script_json(data: Any) -> "Markup":
    """JSON that no text in it can end the script element with."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
