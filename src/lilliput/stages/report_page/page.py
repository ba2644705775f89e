"""Turns a report into one self-contained HTML page."""

import base64
import hashlib
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lilliput.records import Report
from lilliput.stages import wording
from lilliput.stages.report_page.charts import chart_data, embed_json
from lilliput.stages.report_page.view import page_view

LARGEST_PAGE = 2_000_000
_ROWS = (1000, 300, 100, 30, 10)


def render_page(report: Report) -> str:
    """The whole page as text, below 2 MB, with no reference to anything outside it.

    Long names are cut in the middle and long lists after as many rows as fit; `report.json` keeps
    everything. All text of the user is escaped, and a content policy that allows our own scripts
    by their hashes and nothing else holds where escaping should ever fail.
    """
    page = ""
    for rows in _ROWS:
        page = _render(report, rows)
        if len(page.encode("utf-8")) < LARGEST_PAGE:
            break
    return page


def _render(report: Report, rows: int) -> str:
    scripts = (_asset("chart.umd.min.js").split("\n//# sourceMappingURL=")[0], _asset("page.js"))
    return _template().render(
        **page_view(report, rows),
        style=Markup(_asset("style.css")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
        data=embed_json(chart_data(report, rows)),
    )


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clean=wording.clean,
        count=wording.count,
        number=wording.number,
        share=wording.share,
        size=wording.size,
        times=wording.times,
    )
    return environment.get_template("page.html.j2")


def _policy(scripts: tuple[str, ...]) -> str:
    """The content policy: our own scripts by their hashes, inline style, nothing from outside."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
