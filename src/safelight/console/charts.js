// Plots over time. Owns the loading of uPlot, which a Python package ships and this server passes on,
// and its colours in both themes. Loaded by the one page that draws plots. Each plot also stands in
// the page as figures, for whoever cannot see it.

import { h } from "./dom.js";
import { T } from "./texts.js";

const VENDOR = new URL("./vendor/", import.meta.url);
let loading = null;

/** Load the library once; false where the package that ships it is not installed. */
export function ready() {
  loading ??= new Promise((resolve) => {
    document.head.append(
      h("link", { rel: "stylesheet", href: new URL("uplot.css", VENDOR).href }),
      h("script", { src: new URL("uplot.js", VENDOR).href, on: { load: () => resolve(true), error: () => resolve(false) } }));
  });
  return loading;
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const COLOURS = ["--accent", "--line-strong", "--good", "--warn"];

/** The places of values with nothing on either side: a line would not show them. */
function alone(plot, line, drawn) {
  if (drawn) return null;
  const values = plot.data[line];
  const found = [...values.keys()].filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
  return found.length ? found : null;
}

/** One plot: `least` is what its axis reaches at least, or nothing at all would fill it; `lines` are {label, values, value(text), bars}; `times` in unix seconds. */
export class Plot {
  constructor(title, text, lines, format, least) {
    this.lines = lines;
    this.format = format;
    this.least = least;
    this.area = h("div", { class: "area" });
    this.now = h("b", {});
    this.figures = h("details", { class: "hint" });
    this.element = h("section", { class: "card plot" }, h("h2", {}, title, this.now), h("p", {}, text),
      h("div", { class: "key" }, lines.map((line, at) => h("span", {}, h("i", { style: { background: `var(${COLOURS[at]})` } }), line))), this.area, this.figures);
    this.observer = new ResizeObserver(() => this.chart?.setSize(this.size()));
    this.observer.observe(this.area);
  }

  size() {
    return { width: Math.max(this.area.clientWidth, 120), height: 190 };
  }

  /** Draw `series`, one list of numbers or nulls for each line. */
  draw(times, series) {
    this.data = [times, ...series];
    const last = series[0].findLast((value) => value !== null);
    this.now.textContent = last === undefined ? "–" : this.format(last);
    this.element.dataset.points = String(series.flat().filter((value) => value !== null).length);
    this.tell(times, series);
    if (!globalThis.uPlot) return;
    if (this.chart) return this.chart.setData(this.data);
    this.chart = new uPlot(this.options(), this.data, this.area);
  }

  /** The last figures as a table. */
  tell(times, series) {
    const recent = times.map((at, index) => [at, ...series.map((line) => line[index])]).slice(-12).reverse();
    const open = this.figures.open;
    this.figures.replaceChildren(h("summary", {}, T.metrics.figures), h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, T.metrics.time), this.lines.map((line) => h("th", { scope: "col", class: "right" }, line)))),
      h("tbody", {}, recent.map(([at, ...values]) => h("tr", {}, h("td", {}, new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })),
        values.map((value) => h("td", { class: "right" }, value === null ? "–" : this.format(value))))))));
    this.figures.open = open;
  }

  options() {
    const axis = { stroke: ink("--ink-2"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      ...this.size(), cursor: { points: { size: 6 }, drag: { x: false, y: false } }, legend: { show: false },
      scales: { y: { range: (_plot, low, high) => [Math.min(0, low ?? 0), Math.max((high ?? 0) * 1.12, this.least)] } },
      axes: [{ ...axis, size: 34, values: (_plot, ticks) => ticks.map((at) => this.clock(at)) }, { ...axis, size: 62, values: (_plot, ticks) => ticks.map((value) => this.format(value)) }],
      series: [{}, ...this.lines.map((_line, at) => ({ stroke: ink(COLOURS[at]), width: at ? 1.6 : 2.2, points: { size: 5, filter: alone }, spanGaps: false, ...(at ? {} : { fill: `${ink(COLOURS[0])}1c` }) }))],
    };
  }

  clock(at) {
    const date = new Date(at * 1000);
    const span = this.data[0].length > 1 ? this.data[0].at(-1) - this.data[0][0] : 0;
    return date.toLocaleString([], span > 172_800 ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", hour12: false });
  }

  /** Draw again in the colours of now. */
  recolour() {
    this.chart?.destroy();
    this.chart = null;
    if (this.data) this.draw(this.data[0], this.data.slice(1));
  }

  end() {
    this.observer.disconnect();
    this.chart?.destroy();
  }
}
