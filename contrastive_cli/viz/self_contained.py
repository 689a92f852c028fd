"""A page in one file: pictures, data, style and script are inside, and nothing is loaded from elsewhere.

The content policy forbids the page every request and every script but the one of the templates, known by its hash.
Text of the user's is data: JSON in which no tag can begin, from which the script makes text nodes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{hash}'"


def assemble_page(
    template: str, data: Mapping[str, Any], atlases: Sequence[bytes], *, style: str, scripts: Sequence[str]
) -> bytes:
    """Put the parts of a page into its template.

    Args:
        template: The HTML file of the templates, with places for policy, title, style, data, atlases and script.
        data: What the script shows, as JSON; `title` is the page's own too.
        atlases: WebP images.
        style: The file of the style.
        scripts: The files of the script, one after the other.
    """
    script = "\n".join(page_template(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": POLICY.format(hash=f"sha256-{digest}"),
        "title": html.escape(str(data["title"]).encode("ascii", "backslashreplace").decode()),
        "style": page_template(style),
        "script": script,
        "data": json_for_html(data),
        "atlases": "\n".join(
            f'<script type="text/plain" class="atlas">{base64.b64encode(atlas).decode()}</script>' for atlas in atlases
        ),
    }
    # In one pass, so that nothing in a part is taken for a place of another.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page_template(template)).encode("utf-8")


def json_for_html(value: Any) -> str:
    """JSON in ASCII that can stand in a script element: no tag, comment or entity begins in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_template(name: str) -> str:
    """The text of a file of `templates/`."""
    return (resources.files("contrastive_cli.viz") / "templates" / name).read_text(encoding="utf-8")
