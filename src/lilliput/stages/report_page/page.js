"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const painters = [];
  const nothing = "–";

  // ---- numbers -----------------------------------------------------------------------------
  const plain = (value) => {
    if (value === null || value === undefined) return nothing;
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace(/-/g, "−");
    return value.toLocaleString("en-US", { maximumSignificantDigits: 4 }).replace(/-/g, "−");
  };
  const bytes = (value) => {
    if (value === null) return nothing;
    const units = ["B", "kB", "MB", "GB", "TB"];
    let step = 0;
    while (Math.abs(value) >= 1000 && step < units.length - 1) { value /= 1000; step += 1; }
    return `${plain(Number(value.toPrecision(3)))} ${units[step]}`;
  };
  const worded = (value, unit) => unit === "bytes" ? bytes(value) : value === null ? nothing : `${plain(value)}${unit ? ` ${unit}` : ""}`;
  const tail = (text, length) => text.length <= length ? text : `…${text.slice(1 - length)}`;
  const short = (name) => {  // encoder.layer.3.attention.self.query.weight -> 3.self.query
    const parts = name.replace(/\.weight$/, "").split("."), last = parts.splice(-2);
    return tail([...parts.filter((part) => /^\d+$/.test(part)), ...last].join("."), 22);
  };
  const lines = (text) => text.match(/[\s\S]{1,40}/g) || [""];

  // ---- charts: common look -------------------------------------------------------------------
  const looks = () => ({
    ink: colour("--ink"), soft: colour("--soft"), line: colour("--line"), accent: colour("--accent"),
    before: colour("--before"), raised: colour("--raised"), paper: colour("--paper"),
    wash: colour("--accent-wash"),
  });
  const axis = (title) => ({ title: { display: Boolean(title), text: title }, grid: {}, ticks: {}, border: {} });
  const paintAxis = (scale, look, grid) => {
    scale.title.color = look.soft;
    scale.ticks.color = look.soft;
    scale.grid.color = grid ? look.line : "transparent";
    scale.border.color = look.line;
  };
  const basics = (extra) => ({
    animation: false, responsive: true, maintainAspectRatio: false,
    interaction: { mode: "nearest", intersect: false },
    ...extra,
    plugins: { colors: { enabled: false }, legend: { display: false }, ...extra.plugins },
  });
  const paintTooltip = (chart, look) => {
    Object.assign(chart.options.plugins.tooltip, {
      backgroundColor: look.ink, titleColor: look.paper, bodyColor: look.paper, footerColor: look.paper,
    });
  };
  const make = (name, config, paint) => {
    const box = document.querySelector(`[data-chart="${name}"]`);
    box.hidden = false;
    const family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.family = family;

    const chart = new Chart(byId(`${name}-chart`), config);
    // update() and not update("none"): the latter keeps the colours that equal bars share
    const repaint = () => { const look = looks(); paintTooltip(chart, look); paint(chart, look); chart.update(); };
    painters.push([chart, repaint]);
    repaint();
    return chart;
  };

  // ---- layers --------------------------------------------------------------------------------
  const layers = (source) => {
    const state = { value: source.values[0], order: source.names.map((_, i) => i), from: 0, to: source.names.length - 1 };
    const total = source.names.length;
    const choose = byId("layers-value"), sort = byId("layers-sort"), view = byId("layers-window");
    source.values.forEach((value, i) => choose.add(new Option(value.title, String(i))));
    const bound = { type: "line", label: "theoretical bound", data: [], showLine: false, pointStyle: "line", pointRadius: 7, pointHoverRadius: 8, borderWidth: 2 };
    const bars = { label: "", data: [], categoryPercentage: 1, barPercentage: 0.82, minBarLength: 1 };
    const chart = make("layers", {
      type: "bar",
      data: { labels: [], datasets: [bound, bars] },
      options: basics({
        interaction: { mode: "index", intersect: false },
        scales: { x: { ...axis(""), ticks: { autoSkip: false, maxRotation: 60, minRotation: 60 } }, y: { ...axis(""), beginAtZero: true } },
        plugins: {
          legend: { display: false, align: "end", labels: { usePointStyle: true, filter: (item) => item.datasetIndex === 0 } },
          tooltip: { displayColors: false, padding: 10, callbacks: {
            title: (items) => items.length ? lines(source.names[state.order[items[0].dataIndex]]) : "",
            label: (item) => item.datasetIndex === 0 ? `bound ${worded(item.raw, "bits")}` : `${state.value.title}: ${worded(item.raw, state.value.unit)}`,
            footer: (items) => items.length ? source.kinds[state.order[items[0].dataIndex]] : "",
          } },
        },
      }),
    }, (drawn, look) => {
      Object.assign(drawn.data.datasets[0], { borderColor: look.ink, hoverBorderColor: look.soft });
      Object.assign(drawn.data.datasets[1], { backgroundColor: look.accent, hoverBackgroundColor: look.soft });
      drawn.options.plugins.legend.labels.color = look.soft;
      paintAxis(drawn.options.scales.x, look, false);
      paintAxis(drawn.options.scales.y, look, true);
    });
    const show = () => {
      const x = chart.options.scales.x, seen = state.to - state.from + 1;
      const room = () => chart.width / seen >= 16;
      x.min = state.from;
      x.max = state.to;
      x.ticks.display = true;
      x.ticks.callback = function label(index) { return room() ? short(this.getLabelForValue(index)) : null; };
      chart.update();
      view.textContent = seen === total
        ? `All ${total} layers. Drag across bars, or use the buttons, to look closer.`
        : `Layers ${state.from + 1} to ${state.to + 1} of ${total} in this order.`;
      document.querySelectorAll("[data-zoom]").forEach((button) => {
        const kind = button.dataset.zoom;
        button.disabled = kind === "in" ? seen <= Math.min(4, total) : kind === "left" ? state.from === 0
          : kind === "right" ? state.to === total - 1 : seen === total;
      });
    };
    const arrange = () => {
      const values = state.value.values, low = (v) => v === null ? -Infinity : v;
      state.order = source.names.map((_, i) => i);
      if (sort.value === "value") state.order.sort((a, b) => low(values[b]) - low(values[a]) || a - b);
      if (sort.value === "name") state.order.sort((a, b) => source.names[a].localeCompare(source.names[b], "en", { numeric: true }) || a - b);
      const bounded = state.value.key === "bits" && source.bound.some((v) => v !== null);
      chart.data.labels = state.order.map((i) => source.names[i]);
      bars.label = state.value.title;
      bars.data = state.order.map((i) => values[i]);
      bound.data = bounded ? state.order.map((i) => source.bound[i]) : [];
      chart.options.plugins.legend.display = bounded;
      chart.options.scales.y.title.text = state.value.title;
      chart.options.scales.y.title.display = true;
      chart.options.scales.y.ticks.callback = (v) => state.value.unit === "bytes" ? bytes(v) : plain(v);
    };
    const zoom = (kind) => {
      const seen = state.to - state.from + 1, middle = (state.from + state.to) / 2;
      let size = seen, start = state.from;
      if (kind === "all") { size = total; start = 0; }
      if (kind === "in" || kind === "out") {
        size = Math.max(Math.min(4, total), Math.min(total, Math.round(kind === "in" ? seen / 2 : seen * 2)));
        start = Math.round(middle - (size - 1) / 2);
      }
      if (kind === "left" || kind === "right") start += (kind === "left" ? -1 : 1) * Math.max(1, Math.round(seen / 2));
      state.from = Math.max(0, Math.min(total - size, start));
      state.to = state.from + size - 1;
      show();
    };
    document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(button.dataset.zoom)));
    choose.addEventListener("change", () => { state.value = source.values[Number(choose.value)]; arrange(); show(); });
    sort.addEventListener("change", () => { arrange(); zoom("all"); });
    brush(chart, (from, to) => { state.from = from; state.to = to; show(); }, () => zoom("all"));
    arrange();
    show();
  };

  // dragging with a mouse zooms; a finger scrolls the page as it should
  const brush = (chart, chosen, reset) => {
    const canvas = chart.canvas, band = document.createElement("i");
    let start = null;
    band.className = "brush";
    band.hidden = true;
    canvas.parentElement.append(band);
    const place = (event) => event.clientX - canvas.getBoundingClientRect().left;
    const end = () => { start = null; band.hidden = true; };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button !== 0) return;
      start = place(event);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const area = chart.chartArea, now = Math.max(area.left, Math.min(area.right, place(event)));
      Object.assign(band.style, { left: `${Math.min(start, now)}px`, width: `${Math.abs(now - start)}px`, top: `${area.top}px`, height: `${area.bottom - area.top}px` });
      band.hidden = Math.abs(now - start) < 5;
    });
    canvas.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const ends = [start, place(event)].sort((a, b) => a - b), x = chart.scales.x;
      end();
      if (ends[1] - ends[0] < 5) return;
      const [from, to] = ends.map((pixel) => Math.round(x.getValueForPixel(pixel)));
      if (to > from) chosen(Math.max(from, x.min), Math.min(to, x.max));
    });
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("dblclick", reset);
  };

  // ---- sensitivity ---------------------------------------------------------------------------
  const sensitivity = (source) => {
    const most = Math.max(...source.points.map((point) => point.bytes), 1);
    const points = source.points.map((point) => ({ ...point, r: 3 + 15 * Math.sqrt(point.bytes / most) }));
    make("sensitivity", {
      type: "bubble",
      data: { datasets: [{ label: "layers", data: points, clip: false }] },
      options: basics({
        interaction: { mode: "nearest", intersect: true },
        layout: { padding: { right: 12, top: 12 } },
        scales: {
          x: { ...axis("Sensitivity of the answers"), type: "logarithmic", ticks: { maxRotation: 0, autoSkipPadding: 16, callback: (v) => plain(v) } },
          y: { ...axis("Bits per weight"), beginAtZero: true, grace: "8%", ticks: { callback: (v) => plain(v) } },
        },
        plugins: { tooltip: { displayColors: false, padding: 10, callbacks: {
          title: (items) => items.length ? lines(items[0].raw.name) : "",
          label: (item) => [`${plain(item.raw.y)} bits per weight`, `sensitivity ${plain(item.raw.x)}`, `was ${bytes(item.raw.bytes)}`],
        } } },
      }),
    }, (chart, look) => {
      const set = chart.data.datasets[0];
      set.backgroundColor = `${look.accent}59`;
      set.borderColor = look.accent;
      set.borderWidth = 1.5;
      set.hoverBackgroundColor = look.accent;
      paintAxis(chart.options.scales.x, look, true);
      paintAxis(chart.options.scales.y, look, true);
    });
  };

  // ---- sweep ---------------------------------------------------------------------------------
  const sweep = (source) => {
    make("sweep", {
      type: "scatter",
      data: { datasets: [{ label: "budgets", data: source.points, clip: false, pointRadius: (item) => item.raw && item.raw.chosen ? 9 : 6, pointHoverRadius: 10 }] },
      options: basics({
        layout: { padding: { right: 12, top: 12 } },
        scales: {
          x: { ...axis("Size of the packed file"), beginAtZero: true, grace: "5%", ticks: { maxRotation: 0, autoSkipPadding: 16, callback: (v) => bytes(v) } },
          y: { ...axis("Divergence of the answers"), type: "logarithmic", ticks: { callback: (v) => plain(v) } },
        },
        plugins: { tooltip: { displayColors: false, padding: 10, callbacks: {
          title: (items) => items.length ? items[0].raw.name + (items[0].raw.chosen ? " (chosen)" : "") : "",
          label: (item) => [bytes(item.raw.x), `divergence ${plain(item.raw.y)}`, ...(item.raw.ms === null ? [] : [`${plain(item.raw.ms)} ms`])],
        } } },
      }),
    }, (chart, look) => {
      const set = chart.data.datasets[0];
      set.backgroundColor = source.points.map((point) => point.front ? look.accent : "transparent");
      set.borderColor = look.accent;
      set.borderWidth = source.points.map((point) => point.chosen ? 4 : 1.5);
      paintAxis(chart.options.scales.x, look, true);
      paintAxis(chart.options.scales.y, look, true);
    });
  };

  // ---- classes -------------------------------------------------------------------------------
  const classes = (source) => {
    byId("classes-chart").parentElement.style.height = `${Math.max(140, 26 * source.label.length + 60)}px`;
    const reach = Math.max(...source.change.map(Math.abs), 0.1) * 1.1;
    make("classes", {
      type: "bar",
      data: { labels: source.label, datasets: [{ label: "change in points", data: source.change, barPercentage: 0.75, minBarLength: 2 }] },
      options: basics({
        indexAxis: "y",
        interaction: { mode: "index", intersect: false, axis: "y" },
        scales: {
          x: { ...axis("Change in points of 100"), min: -reach, max: reach, ticks: { maxRotation: 0, includeBounds: false, callback: (v) => plain(Number(v.toPrecision(6))) } },
          y: { ...axis(""), ticks: { autoSkip: false, callback(index) { return tail(this.getLabelForValue(index), innerWidth < 600 ? 14 : 32); } } },
        },
        plugins: { tooltip: { displayColors: false, padding: 10, callbacks: {
          title: (items) => items.length ? lines(source.label[items[0].dataIndex]) : "",
          label: (item) => `${plain(100 * source.original[item.dataIndex])} % → ${plain(100 * source.artifact[item.dataIndex])} %`,
          footer: (items) => items.length ? `${plain(items[0].raw)} points` : "",
        } } },
      }),
    }, (chart, look) => {
      const set = chart.data.datasets[0];
      set.backgroundColor = set.data.map((change) => change < 0 ? look.accent : look.before);
      set.hoverBackgroundColor = look.soft;
      paintAxis(chart.options.scales.x, look, true);
      paintAxis(chart.options.scales.y, look, false);
    });
  };

  // ---- tables --------------------------------------------------------------------------------
  const sortTable = (table) => {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], first = [...body.rows];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const numeric = head.dataset.sort === "number";
      const up = head.getAttribute("aria-sort") === (numeric ? "descending" : "none") || (!numeric && !head.hasAttribute("aria-sort"));
      const key = (row) => numeric ? ("value" in row.cells[column].dataset ? Number(row.cells[column].dataset.value) : null) : row.cells[column].textContent;
      const compare = (a, b) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return (up ? 1 : -1) * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
      };
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...first.map((row) => [key(row), row]).sort((a, b) => compare(a[0], b[0])).map((pair) => pair[1]));
    }));
  };

  // ---- copy, themes, print -------------------------------------------------------------------
  const copyButton = (button) => {
    const said = byId("copied"), text = byId("command").textContent;
    const select = () => {
      const range = document.createRange(), selection = getSelection();
      range.selectNodeContents(byId("command"));
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand("copy");
    };
    button.hidden = false;
    button.addEventListener("click", async () => {
      let done = false;
      try { await navigator.clipboard.writeText(text); done = true; } catch { done = select(); }
      said.textContent = done ? "Copied." : "Selected: press Ctrl+C to copy.";
    });
  };

  const repaintAll = () => painters.forEach(([, repaint]) => repaint());
  const opened = new Set();
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    document.querySelectorAll("details:not([open]):not([data-long])").forEach((item) => { item.open = true; opened.add(item); });
    repaintAll();
    painters.forEach(([chart]) => chart.resize(Math.min(chart.width, 680), chart.height));
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    opened.forEach((item) => { item.open = false; });
    opened.clear();
    repaintAll();
    painters.forEach(([chart]) => chart.resize());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaintAll);

  const drawers = { layers, sensitivity, sweep, classes };
  Object.keys(drawers).forEach((name) => { if (data[name]) drawers[name](data[name]); });
  document.querySelectorAll("table.sortable").forEach(sortTable);
  if (byId("copy")) copyButton(byId("copy"));
})();
