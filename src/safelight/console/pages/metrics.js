// Metrics: the article's three numbers and ours as plots, from the series of the books. Looks again
// every few seconds, so what happens now shows within ten.

import { series } from "../admin.js";
import { Plot, ready } from "../charts.js";
import { fill, h } from "../dom.js";
import { count, duration, money, percent } from "../format.js";
import { T } from "../texts.js";
import { bones, failureNote, segments } from "../ui.js";

const LOOK_MS = 5000;
const SPANS = { hour: ["minute", 3600], day: ["hour", 86_400], week: ["day", 7 * 86_400] };
const STEP_S = { minute: 60, hour: 3600, day: 86_400 };

const share = (part, whole) => (whole ? part / whole : null);

// name, lines, format, what the axis reaches at least, what each line is of one point
const PLOTS = [
  ["generation", ["median", "p95"], duration, 1, (one) => [one.generation_p50_s ?? null, one.generation_p95_s ?? null]],
  ["errors", ["visible", "hidden"], percent, 0.02, (one) => [share(one.visible, one.completed + one.failed), share(one.hidden_errors, one.attempts)]],
  ["throttled", ["absorbed"], count, 4, (one) => [one.throttled ?? 0]],
  ["rate", ["made", "capacity"], count, 4, (one, step) => [one.completed * 60 / STEP_S[step], one.capacity_per_minute ?? null]],
  ["links", ["share"], percent, 1, (one) => [one.link_success ?? null]],
  ["money", ["settled", "cost"], (micros) => money(Math.round(micros)), 100_000, (one) => [one.settled_micros ?? 0, one.vendor_cost_micros ?? 0]],
];

/** Show the page. */
export async function show(view) {
  let span = "hour";
  let shown = "";
  const note = h("div");
  const plots = PLOTS.map(([name, lines, format, least]) => new Plot(T.metrics[name], T.metrics[`${name}Text`], lines.map((line) => T.metrics[line]), format, least));
  const area = h("div", { class: "plots" }, plots.map((plot) => plot.element));
  const look = async () => {
    const [step, seconds] = SPANS[span];
    const now = Math.floor(Date.now() / 1000);
    try {
      const found = await series(step, now - seconds, now + 1);
      fill(note);
      const text = span + JSON.stringify(found);
      if (text === shown) return;
      shown = text;
      const times = found.data.map((one) => one.at);
      plots.forEach((plot, at) => {
        const [, lines, , , read] = PLOTS[at];
        plot.draw(times, lines.map((_line, line) => found.data.map((one) => read(one, step)[line])));
      });
    } catch (problem) {
      fill(note, failureNote(problem, look));
    }
  };
  fill(view, bones(8));
  const drawn = await ready();
  fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.metrics), h("p", { class: "lead" }, T.metrics.lead)),
    h("div", { class: "actions" }, segments(T.metrics.span, Object.keys(SPANS).map((one) => [one, T.metrics[one]]), span, (value) => {
      span = value;
      look();
    }))),
  drawn ? null : h("p", { class: "note warn" }, T.metrics.absent), note, area);
  await look();
  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  const recolour = () => plots.forEach((plot) => plot.recolour());
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", recolour);
  addEventListener("themechange", recolour);
  return () => {
    clearInterval(timer);
    system.removeEventListener("change", recolour);
    removeEventListener("themechange", recolour);
    plots.forEach((plot) => plot.end());
  };
}
