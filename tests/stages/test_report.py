"""`report.json` and `report.html`: whole, deterministic, valid, and safe to open."""

import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sample_reports import HOSTILE, bare, hostile, minilm, missed, unproved

from lilliput.errors import InputError, InternalError, OutputError
from lilliput.records import Report, Sizes, Step
from lilliput.stages import report_page
from lilliput.stages.report import read_report, report, report_schema, report_text
from lilliput.stages.report_page.charts import chart_data, embed_json
from lilliput.stages.report_page.page import LARGEST_PAGE, render_page

ROOT = Path(__file__).parents[2]
ASSETS = Path(report_page.__file__).parent
REPORTS = {f.__name__: f for f in (minilm, bare, hostile, unproved, missed)}
ISSUE_FIELDS = (
    "schema budget original artifact limits drop files verdict reasons plan environment seed"
)


class Page(HTMLParser):
    """Elements of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = self._script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data


# ---- report.json -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", REPORTS)
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    made = REPORTS[name]()
    json_path, page_path = report(made, tmp_path / "new" / "folder")
    assert (json_path.name, page_path.name) == ("report.json", "report.html")
    assert read_report(json_path) == made
    assert read_report(json_path.parent) == made
    assert sorted(p.name for p in json_path.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("name", REPORTS)
def test_a_real_report_fits_the_schema(name: str) -> None:
    data = json.loads(report_text(REPORTS[name]()))
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(data)
    assert set(ISSUE_FIELDS.split()) <= set(schema["required"]) & set(data)


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "docs" / "report.schema.json").read_text() == report_schema(), (
        "write it again: python -c 'from lilliput.stages.report import report_schema; "
        'print(report_schema(), end="")\' > docs/report.schema.json'
    )


def test_the_schema_refuses_what_is_no_report() -> None:
    schema = json.loads(report_schema())
    data = json.loads(report_text(minilm()))
    for broken in ({"verdict": "fine"}, {"surprise": 1}, {"schema": "lilliput-report/0"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data | broken, schema)


def test_text_is_sorted_and_deterministic() -> None:
    text = report_text(minilm())
    data = json.loads(text)
    assert list(data) == sorted(data)
    assert text.endswith("}\n")
    assert text == report_text(minilm())
    assert render_page(minilm()) == render_page(minilm())


def test_infinite_and_nan_become_null(tmp_path: Path) -> None:
    drop = missed().drop
    assert drop is not None
    worst = drop.worst[0].model_copy(update={"original": math.nan, "artifact": -math.inf})
    drop = drop.model_copy(update={"upper": math.inf, "estimate": math.nan, "worst": (worst,)})
    path, _ = report(missed().model_copy(update={"drop": drop}), tmp_path)
    data = json.loads(path.read_text(), parse_constant=lambda token: pytest.fail(token))
    assert data["drop"]["upper"] is None
    assert data["drop"]["worst"][0]["artifact"] is None
    assert read_report(path).drop is not None


def test_a_report_that_could_not_be_read_back_is_our_bug(tmp_path: Path) -> None:
    broken = minilm().model_copy(update={"seconds": {"plan": math.nan}})
    with pytest.raises(InternalError, match=r"cannot be read back: seconds\.plan"):
        report(broken, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unmeasured_is_null() -> None:
    data = json.loads(report_text(bare()))
    assert data["drop"] is None
    assert data["original"]["memory_bytes"] is None
    assert data["artifact"]["latency_ms"] is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a report of this version"),
        ("{}", "budget: Field required"),
        ('{"schema": "lilliput-report/9"}', "schema: Input should be 'lilliput-report/1'"),
        ("[1, 2", "Invalid JSON"),
        ("\x00\xff", "is not a report"),
    ],
)
def test_a_damaged_report_is_named(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=re.escape(words)):
        read_report(tmp_path)


def test_no_report_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*report\.json .*lilliput compress"):
        read_report(tmp_path)
    with pytest.raises(InputError, match=r"there is no .*gone"):
        read_report(tmp_path / "gone")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot write the report to"):
        report(bare(), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(bare(), tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        report(minilm(), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_writing_again_replaces(tmp_path: Path) -> None:
    report(bare(), tmp_path)
    report(minilm(), tmp_path)
    assert read_report(tmp_path).verdict == "proved"
    assert len(list(tmp_path.iterdir())) == 2


# ---- report.html -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", REPORTS)
def test_the_page_refers_to_nothing_outside(name: str) -> None:
    text = render_page(REPORTS[name]())
    page = Page(text)
    assert len(text.encode()) < LARGEST_PAGE
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "img", "object", "embed", "form", "base"}
        assert "src" not in attributes
        assert not [key for key in attributes if key.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in text.split("</style>")[0]
    assert "sourceMappingURL" not in text


@pytest.mark.parametrize("name", REPORTS)
def test_the_policy_allows_our_scripts_alone(name: str) -> None:
    page = Page(render_page(REPORTS[name]()))
    policy = next(
        a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("script-src").count("'sha256-") == 2
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert len(page.scripts) == 3  # the data, the library, ours


def test_hostile_text_is_only_text() -> None:
    page = Page(render_page(hostile()))
    plain = Page(render_page(minilm()))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert page.scripts[1:] == plain.scripts[1:]
    names = json.loads(page.scripts[0])["layers"]["names"]
    assert names[0] == HOSTILE[0] + "0"
    assert names[5].startswith("xxx")
    assert len(names[5]) == 120


@given(st.text(max_size=60))
def test_embedded_json_cannot_end_its_element(text: str) -> None:
    embedded = embed_json({text: [text, 1.5, None]})
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert json.loads(embedded) == {text: [text, 1.5, None]}


def test_a_thousand_long_names_stay_below_two_megabytes() -> None:
    source = minilm()
    names = [f"{i}" + "🦙" * 10_000 for i in range(1500)]
    step = source.plan.steps[0].model_copy(update={"where": tuple(names)})
    sites = tuple(source.sites[0].model_copy(update={"name": name}) for name in names)
    large = minilm(sites=sites, plan=source.plan.model_copy(update={"steps": (step,) * 40}))
    text = render_page(large)
    assert len(text.encode()) < LARGEST_PAGE
    assert "1,500 weights" in text
    assert "report.json has all" in text


SECTIONS = (
    "headline limits reasons sizes drop layers classes examples done data warnings environment "
    "files repeat"
)


def test_the_order_of_the_sections() -> None:
    text = render_page(minilm())
    places = [text.index(f'id="{name}') for name in SECTIONS.split()]
    assert places == sorted(places)


def test_empty_sections_are_left_out() -> None:
    text = render_page(bare())
    present = [name for name in SECTIONS.split() if f'id="{name}"' in text]
    assert present == ["headline", "sizes", "environment"] or present == ["headline", "sizes"]
    assert "None" not in text.split("<script")[0]
    assert "nan" not in text.split("<script")[0].lower().split("</style>")[1]


@pytest.mark.parametrize("name", REPORTS)
def test_every_drawing_has_a_table(name: str) -> None:
    text = render_page(REPORTS[name]())
    for section in re.findall(r"<section.*?</section>", text, flags=re.S):
        if "<canvas" in section or 'class="axis"' in section or 'class="bar' in section:
            assert re.search(r"<details.*?<table", section, flags=re.S)


def test_the_page_says_what_the_report_says() -> None:
    text = render_page(minilm())
    for words in (
        "<bdi>Ship model.lilliput: 10 of 11 bytes gone.</bdi>",
        "≤ 9 % (8.18 MB)",
        "likely −0.46 to 0.43 points",
        "340 (5 %)",
        "118 dB",
        "lilliput compress examples/sentences.py --storage 9% --drop 1% --out out/demo",
        "trusted the audience",
    ):
        assert words in text
    for entry in minilm().files.values():
        assert entry.sha256 in text


def test_the_page_shows_how_the_plan_was_found_and_what_it_predicted() -> None:
    text = render_page(minilm())
    assert "Planning ended because no swap lowers the divergence" in text
    assert "17 plans tried on search examples" in text
    rows = re.findall(r"<tr>.*?</tr>", text)
    (divergence,) = [r for r in rows if ">divergence<" in r]
    assert "0.0113" in divergence and "0.0127" in divergence
    assert any("quantize_round" in r and "0.041" in r and "0.038" in r for r in rows)
    assert "explain those variants" in text and "3.4 %" in text
    assert "Planning ended" not in render_page(bare())


def test_the_page_shows_the_points_of_a_sweep() -> None:
    text = render_page(minilm())
    rows = {
        r[1]: r[0] for r in re.findall(r"(<tr><th scope=\"row\"><bdi>(\d+%)</bdi>.*?</tr>)", text)
    }
    assert rows.keys() == {"6%", "9%", "20%"}
    assert "chosen" in rows["9%"] and "plan-9-percent.toml" in rows["9%"]
    assert "on the front" in rows["6%"] and "beaten" in rows["20%"]
    points = chart_data(minilm(), 100)["sweep"]["points"]
    assert [(p["x"], p["chosen"]) for p in points] == [
        (5_400_000, False),
        (8_090_000, True),
        (18_000_000, False),
    ]
    assert 'id="sweep"' not in render_page(bare())


def test_the_page_shows_what_corrupted_inputs_do() -> None:
    section = render_page(minilm()).split('id="generalization"')[1].split("</section>")[0]
    dropped, masked = re.findall(r"<tr><th scope=\"row\">.*?</tr>", section)
    for words in (
        "drop_tokens(rate=0.15)",
        ">500<",
        "0.742",
        "0.738",
        "0.4 points",
        "≤ 2.2 points",
    ):
        assert words in dropped
    assert ">60<" in masked and ">–<" in masked, "too few examples for a bound"
    assert 'id="generalization"' not in render_page(bare())


def test_steps_of_one_technique_are_told_together() -> None:
    plan = minilm().plan
    steps = [
        Step(technique="quantize_feedback", where=(f"w{i}",), settings={"step": i / 8, "a": True})
        for i in range(1, 4)
    ]
    steps.append(Step(technique="quantize_float16", where=("bias",)))
    page = render_page(minilm(plan=plan.model_copy(update={"steps": tuple(steps)})))
    done = page.split('id="done"')[1].split("</section>")[0]
    assert "quantize_feedback</bdi></code> on 3 weights" in done
    assert "<bdi>a = True</bdi>" in done
    assert "<bdi>w3</bdi> <small><bdi>step = 0.375</bdi>" in done
    assert "quantize_float16</bdi></code> on 1 weight<" in done


def test_the_environment_is_readable() -> None:
    page = render_page(minilm(environment={"ram_bytes": "25276510208", "cpu_features": "avx2"}))
    assert "<bdi>ram</bdi></dt><dd><bdi>25.3 GB</bdi>" in page
    assert "<bdi>cpu features</bdi>" in page


def test_a_further_look_is_said() -> None:
    drop = minilm().drop
    assert drop is not None
    again = render_page(minilm(drop=drop.model_copy(update={"look": 3, "confidence": 0.9958})))
    assert "It was look no. 3 at these examples" in again
    assert "99.58\u00a0% sure" in again
    assert "It was look" not in render_page(minilm())


def test_reasons_of_the_table_are_not_repeated() -> None:
    assert 'id="reasons"' not in render_page(missed())


# ---- assets ------------------------------------------------------------------------------------
def test_the_library_is_the_one_described() -> None:
    library = (ASSETS / "chart.umd.min.js").read_bytes()
    note = (ASSETS / "chart.README.md").read_text()
    assert hashlib.sha256(library).hexdigest() in note
    assert b"Chart.js v4.6.1" in library
    assert "MIT License" in (ASSETS / "chart.LICENSE.md").read_text()


def test_scripts_survive_html_unchanged() -> None:
    for name in ("chart.umd.min.js", "page.js", "style.css"):
        text = (ASSETS / name).read_bytes().decode()
        assert "\r" not in text
        assert not re.search(r"</(script|style)|<!--", text)


def test_a_report_is_a_closed_record() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Report.model_validate(json.loads(report_text(bare())) | {"note": 1})
    assert Sizes().storage_bytes is None
