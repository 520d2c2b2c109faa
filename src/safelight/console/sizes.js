// The size picker: shapes drawn to scale, three tiers, and whatever else a channel names. Owns only
// the choosing; which sizes exist and what they cost is GET /v1/sizes' word.

import { fill, h } from "./dom.js";
import { money } from "./format.js";
import { T } from "./texts.js";
import { segments } from "./ui.js";

const TIERS = ["1K", "2K", "4K"];
const SHAPE = 34;

/** A picker over one channel's sizes; its `data-size` is what is chosen. */
export function sizePicker(channel, wanted, act) {
  const root = h("div", { class: "sizes", data: { size: "auto" } });
  const byShape = new Map();
  for (const size of channel.sizes) {
    const tiers = byShape.get(size.ratio) ?? new Map();
    if (!tiers.has(size.tier)) tiers.set(size.tier, []);
    tiers.get(size.tier).push(size);
    byShape.set(size.ratio, tiers);
  }
  const shapes = [...byShape].filter(([, tiers]) => TIERS.some((tier) => tiers.has(tier)));
  const now = channel.sizes.find((one) => one.name === wanted);
  const state = { ratio: now?.ratio ?? (wanted === "auto" && !channel.sizes.length ? "auto" : shapes.some(([one]) => one === "1:1") ? "1:1" : "auto"), tier: now?.tier ?? "1K", name: now?.name ?? null };
  const name = `shape-${Math.random().toString(36).slice(2)}`;
  const rest = h("div", { class: "stack" });

  const draw = (tell) => {
    const tiers = byShape.get(state.ratio);
    const usable = TIERS.filter((tier) => tiers?.has(tier));
    if (tiers && !tiers.has(state.tier)) state.tier = usable[0];
    const names = tiers?.get(state.tier) ?? [];
    const chosen = names.find((one) => one.name === state.name) ?? names[0] ?? null;
    root.dataset.size = chosen?.name ?? "auto";
    fill(rest,
      usable.length > 1 ? segments(T.sizes.tier, usable.map((tier) => [tier, tier]), state.tier, (tier) => {
        state.tier = tier;
        draw(true);
      }) : null,
      names.length > 1 ? segments(T.sizes.pixels, names.map((one) => [one.name, one.name.replace("x", " × ")]), chosen.name, (own) => {
        state.name = own;
        draw(true);
      }) : null,
      h("p", { class: "hint" }, chosen ? `${chosen.width} × ${chosen.height} · ${T.plan(chosen.plan)} · ${money(chosen.price_micros)}` : T.sizes.auto));
    if (tell) act(root.dataset.size);
  };
  const choices = [["auto", null], ...shapes.map(([ratio, tiers]) => [ratio, [...tiers.values()][0][0]])];
  root.append(h("fieldset", {}, h("legend", { class: "legend" }, T.sizes.shape), h("div", { class: "shapes" },
    choices.map(([ratio, sample]) => h("label", { class: "shape" },
      h("input", { type: "radio", name, value: ratio, checked: ratio === state.ratio, on: { change: () => {
        state.ratio = ratio;
        state.name = null;
        draw(true);
      } } }), h("span", { class: "well" }, outline(sample)), h("span", {}, ratio))))), rest);
  draw(false);
  return root;
}

function outline(sample) {
  if (!sample) return h("i", { class: "any", style: { width: `${SHAPE * 0.7}px`, height: `${SHAPE * 0.7}px` } });
  const scale = SHAPE / Math.max(sample.width, sample.height);
  return h("i", { style: { width: `${Math.round(sample.width * scale)}px`, height: `${Math.round(sample.height * scale)}px` } });
}
