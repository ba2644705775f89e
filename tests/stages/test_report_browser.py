"""The page in a real browser: it draws the report's numbers, loads nothing and fits a phone."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sample_reports import bare, hostile, minilm, missed, unproved

from lilliput.stages.report import report

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE, DESK = 360, 1280
REPORTS = {f.__name__: f for f in (minilm, bare, hostile, unproved, missed)}

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        message = f"there is no {CHROMIUM}"
        if os.environ.get("LILLIPUT_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {name: report(f(), tmp_path_factory.mktemp(name)) for name, f in REPORTS.items()}


@dataclass
class Visit:
    """A page that is open, and everything it complained about or asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def wait(self, script: str) -> None:
        """Until `script` is true; asked from outside, because the page's policy forbids eval."""
        end = time.monotonic() + 10
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            self.page.wait_for_timeout(20)


@pytest.fixture
def visit(browser: Any, written: dict[str, tuple[Path, Path]]) -> Iterator[Any]:
    contexts = []

    def open_page(name: str, *, width: int = DESK, scheme: str = "light", **more: Any) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True, **more
        )
        contexts.append(context)
        seen = Visit(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("dialog", lambda dialog: seen.said.append(dialog.message))
        seen.page.on("request", lambda request: seen.asked.append(request.url))
        seen.page.goto(written[name][1].as_uri())
        return seen

    yield open_page
    for context in contexts:
        context.close()


def _data(written: dict[str, tuple[Path, Path]], name: str) -> dict[str, Any]:
    return dict(json.loads(written[name][0].read_text()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", REPORTS)
def test_renders_quietly_and_fits(
    visit: Any, written: Any, name: str, width: int, scheme: str
) -> None:
    seen = visit(name, width=width, scheme=scheme)
    seen.run("document.querySelectorAll('details').forEach(item => { item.open = true; })")
    assert seen.said == []
    assert seen.asked == [written[name][1].as_uri()]
    assert seen.run("document.documentElement.scrollWidth") <= width
    outside = "[...document.querySelectorAll('main *, header, footer')].filter(e => !e.closest("
    outside += "'.scroll, .visually-hidden') && e.getBoundingClientRect().right > innerWidth + 1)"
    assert seen.run(f"{outside}.map(e => e.outerHTML.slice(0, 80))") == []


def test_layers_draw_the_reports_numbers(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    chart = "Chart.getChart('layers-chart')"
    assert seen.run(f"{chart}.data.labels") == [site["name"] for site in data["sites"]]
    assert seen.run(f"{chart}.data.datasets[1].data") == [site["bits"] for site in data["sites"]]
    bounds = [site["bound_bits"] for site in data["sites"]]
    assert seen.run(f"{chart}.data.datasets[0].data") == bounds
    for title, key in (("Sensitivity of the answers", "sensitivity"), ("Size in the", None)):
        options = seen.run(
            "[...document.querySelectorAll('#layers-value option')].map(o => o.text)"
        )
        index = next(i for i, text in enumerate(options) if text.startswith(title))
        seen.page.select_option("#layers-value", index=index)
        shown = seen.run(f"{chart}.data.datasets[1].data")
        assert shown == [site[key or "storage_bytes"] for site in data["sites"]]


def test_bars_are_as_high_as_their_numbers(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    chart = "Chart.getChart('layers-chart')"
    heights = seen.run(f"{chart}.getDatasetMeta(1).data.map(bar => bar.base - bar.y)")
    scale = max(heights) / max(site["bits"] for site in data["sites"])
    for height, site in zip(heights, data["sites"], strict=True):
        assert height == pytest.approx(site["bits"] * scale, abs=0.5)


def test_sorting_and_zooming_the_layers(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    chart = "Chart.getChart('layers-chart')"
    seen.page.select_option("#layers-sort", "value")
    ranked = sorted((site["bits"] for site in data["sites"]), reverse=True)
    assert seen.run(f"{chart}.data.datasets[1].data") == ranked
    seen.page.click("[data-zoom=in]")
    assert seen.run(f"[{chart}.scales.x.min, {chart}.scales.x.max]") == [10, 28]
    assert "Layers 11 to 29 of 38" in seen.page.inner_text("#layers-window")
    seen.page.click("[data-zoom=left]")
    assert seen.run(f"{chart}.scales.x.min") == 0
    assert seen.page.is_disabled("[data-zoom=left]")
    seen.page.click("[data-zoom=all]")
    assert seen.run(f"{chart}.scales.x.max") == 37
    box = seen.page.locator("#layers-chart").bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 80)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 90, steps=4)
    seen.page.mouse.up()
    low, high = seen.run(f"[{chart}.scales.x.min, {chart}.scales.x.max]")
    assert 8 < low < high < 30


def test_hovering_names_the_layer(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    chart = "Chart.getChart('layers-chart')"
    bar = seen.run(f"(({{x, y}}) => [x, y])({chart}.getDatasetMeta(1).data[5])")
    seen.page.locator("#layers-chart").hover(position={"x": bar[0], "y": bar[1] + 5})
    seen.wait(f"{chart}.tooltip.opacity === 1")
    assert "".join(seen.run(f"{chart}.tooltip.title")) == data["sites"][5]["name"]


def test_sensitivity_draws_the_reports_numbers(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    points = seen.run("Chart.getChart('sensitivity-chart').data.datasets[0].data")
    assert [(p["x"], p["y"], p["name"]) for p in points] == [
        (site["sensitivity"], site["bits"], site["name"]) for site in data["sites"]
    ]


def test_classes_draw_the_reports_numbers(visit: Any, written: Any) -> None:
    seen, data = visit("missed"), _data(written, "missed")
    chart = "Chart.getChart('classes-chart')"
    shown = dict(
        zip(
            seen.run(f"{chart}.data.labels"),
            seen.run(f"{chart}.data.datasets[0].data"),
            strict=True,
        )
    )
    for entry in data["drop"]["per_class"]:
        change = 100 * (entry["artifact"] - entry["original"])
        assert shown[entry["label"]] == pytest.approx(change, abs=1e-9)
    assert list(shown.values()) == sorted(shown.values())


def test_bars_of_sizes_have_the_reports_ratio(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    for key in ("storage_bytes", "installed_bytes", "memory_bytes"):
        widths = seen.run(
            f"[...document.querySelectorAll('[data-key={key}] .bar i')]"
            ".map(e => e.getBoundingClientRect().width)"
        )
        ratio = data["artifact"][key] / data["original"][key]
        assert widths[1] / widths[0] == pytest.approx(ratio, abs=0.01)
    values = seen.run(
        "[...document.querySelectorAll('#sizes-table tr[data-key=macs] td[data-value]')]"
        ".map(e => Number(e.dataset.value))"
    )
    assert values == [data["original"]["macs"], data["artifact"]["macs"]]


@pytest.mark.parametrize("name", ["minilm", "unproved", "missed"])
def test_interval_is_drawn_to_scale(visit: Any, written: Any, name: str) -> None:
    seen, drop = visit(name), _data(written, name)["drop"]
    limit = next(x["asked"] for x in _data(written, name)["limits"] if x["name"] == "drop")
    places = seen.run(
        """() => {
          const at = (s) => document.querySelector(s).getBoundingClientRect();
          const range = at('.axis .range'), point = at('.axis .point');
          return { lower: range.left, upper: range.right, estimate: (point.left + point.right) / 2,
                   limit: at('.axis .limit').left, zero: at('.axis .zero').left };
        }"""
    )
    scale = (places["limit"] - places["zero"]) / limit
    for key in ("lower", "upper", "estimate"):
        assert places[key] - places["zero"] == pytest.approx(drop[key] * scale, abs=1.5)
    stamped = seen.run("document.querySelector('.axis .range').dataset.upper")
    assert float(stamped) == drop["upper"]


def test_colours_follow_the_scheme(visit: Any) -> None:
    seen = visit("minilm")
    chart = "Chart.getChart('layers-chart')"
    light = seen.run(f"{chart}.getDatasetMeta(1).data[0].options.backgroundColor")
    paper = seen.run("getComputedStyle(document.body).backgroundColor")
    seen.page.emulate_media(color_scheme="dark")
    seen.wait(f"{chart}.getDatasetMeta(1).data[0].options.backgroundColor !== '{light}'")
    accent = "getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()"
    assert seen.run(f"{chart}.data.datasets[1].backgroundColor") == seen.run(accent)
    assert seen.run("getComputedStyle(document.body).backgroundColor") != paper


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
  };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('script, style') || e.disabled) continue;
    const pair = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) bad.push([e.tagName, e.className, e.textContent.slice(0, 30), ratio]);
  }
  return bad;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["minilm", "unproved", "missed"])
def test_text_has_contrast(visit: Any, name: str, scheme: str) -> None:
    assert visit(name, scheme=scheme).run(CONTRAST) == []


LANDMARKS = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const given = (e) => e.ariaLabel || e.textContent.trim() || e.labels?.length;
  const targets = (e) => [e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby')];
  const ids = all('[id]').map((e) => e.id);
  return {
    lang: document.documentElement.lang,
    counts: ['main', 'header', 'footer', 'h1'].map((tag) => all(tag).length),
    unnamed: all('canvas, button, select, [role=region]').filter((e) => !given(e)).length,
    headless: all('section').filter((e) => !e.getAttribute('aria-labelledby')).length,
    dangling: all('*').flatMap(targets).filter((id) => id && !ids.includes(id)),
    doubled: ids.length - new Set(ids).size,
  };
}"""


@pytest.mark.parametrize("name", REPORTS)
def test_landmarks_headings_and_names(visit: Any, name: str) -> None:
    assert visit(name).run(LANDMARKS) == {
        "lang": "en",
        "counts": [1, 1, 1, 1],
        "unnamed": 0,
        "headless": 0,
        "dangling": [],
        "doubled": 0,
    }


def test_tables_sort(visit: Any, written: Any) -> None:
    seen, data = visit("minilm"), _data(written, "minilm")
    seen.run("document.querySelector('#layers details').open = true")
    seen.page.click("#layers-table th:nth-child(5) button")
    column = "[...document.querySelectorAll('#layers-table tbody td:nth-child(5)')]"
    shown = seen.run(f"{column}.map(e => Number(e.dataset.value))")
    assert shown == sorted((site["bits"] for site in data["sites"]), reverse=True)
    assert seen.run("document.querySelector('#layers-table [aria-sort]').ariaSort") == "descending"
    seen.page.click("#layers-table th:nth-child(5) button")
    assert seen.run(f"{column}.map(e => Number(e.dataset.value))") == shown[::-1]
    seen.page.click("#layers-table th:nth-child(1) button")
    names = seen.run(
        "[...document.querySelectorAll('#layers-table tbody th')].map(e => e.textContent)"
    )
    assert names == sorted(names)


def test_the_command_is_copied(visit: Any, written: Any) -> None:
    seen = visit("minilm", permissions=["clipboard-read", "clipboard-write"])
    seen.page.click("#copy")
    seen.wait("document.getElementById('copied').textContent === 'Copied.'")
    copied = seen.run("navigator.clipboard.readText()")
    assert copied == _data(written, "minilm")["command"]


def test_an_injected_script_would_not_run(visit: Any) -> None:
    seen = visit("minilm")
    seen.run(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.owned = true';
          document.body.append(script);
          const image = '<img src=x onerror="window.owned = true">';
          document.body.insertAdjacentHTML('beforeend', image);
        }"""
    )
    assert seen.run("window.owned ?? false") is False
    assert any("Content Security Policy" in line for line in seen.said)


def test_complete_without_scripts(visit: Any) -> None:
    seen = visit("minilm", java_script_enabled=False, width=PHONE)
    text = seen.page.inner_text("main")
    for words in (
        "Ship model.lilliput",
        "Proved",
        "8.09 MB",
        "limit 1 point",
        "The same as a table",
    ):
        assert words in text
    assert "Copy" not in text
    assert not seen.page.is_visible("#layers-chart")


def test_prints_on_paper(visit: Any) -> None:
    seen = visit("minilm", scheme="dark")
    pdf = seen.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 12
    assert seen.said == []
