// How values look: money, times, sizes. Money is integer micro-dollars on the wire and integer
// arithmetic here (docs/ledger.md); no fraction is ever made of it. Times are shown as this
// browser's own, with UTC in the title.

import { h } from "./dom.js";

const MICROS = 1_000_000n;

/** 30000 as "$0.03", exactly: as many decimals as it has, at least two. */
export function money(micros) {
  if (micros === null || micros === undefined) return "–";
  const amount = BigInt(micros);
  const sign = amount < 0n ? "−" : "";
  const absolute = amount < 0n ? -amount : amount;
  const dollars = (absolute / MICROS).toLocaleString("en-US");
  const rest = (absolute % MICROS).toString().padStart(6, "0").replace(/0{1,4}$/, "");
  return `${sign}$${dollars}.${rest}`;
}

/** "12.50" as 12500000n; null where it is no amount of dollars with up to six decimals. */
export function parseMoney(text) {
  const match = /^\s*\$?\s*([0-9]{1,9})(?:\.([0-9]{1,6}))?\s*$/.exec(text.replaceAll(",", ""));
  if (!match) return null;
  return Number(BigInt(match[1]) * MICROS + BigInt((match[2] ?? "").padEnd(6, "0")));
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

/** Unix seconds as local words: the time today, with the day otherwise. */
export function timeText(seconds) {
  const date = new Date(seconds * 1000);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return CLOCK.format(date);
  const day = date.getFullYear() === now.getFullYear() ? DAY : YEAR;
  return `${day.format(date)}, ${CLOCK.format(date).slice(0, 5)}`;
}

/** The same as an element whose title is the moment in UTC. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const iso = new Date(seconds * 1000).toISOString().replace(".000", "");
  return h("time", { datetime: iso, title: `${iso.replace("T", " ").replace("Z", "")} UTC` }, timeText(seconds));
}

/** A span in seconds: "4.2 s", "3 min 5 s", "2 h 10 min". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} days`;
}

/** Bytes in the units people know. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${(count / size).toFixed(count >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return `${count} B`;
}

/** A share such as 0.0123 as "1.2 %". */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** A count with separators. */
export function count(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: 1 });
}

/** An id that is cut for the eye; whole in the title. */
export function shortId(id) {
  return h("code", { title: id }, id.length > 14 ? `${id.slice(0, 12)}…` : id);
}
