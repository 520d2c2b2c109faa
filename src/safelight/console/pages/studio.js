// Studio: order a picture, watch it come, go on from it. Owns the composer and the stage; the size
// picker, the reference tray and the mask have files of their own.

import { call, localLink, nonce, session, watchJob } from "../api.js";
import { button, field, fill, h, icon, select } from "../dom.js";
import { duration, money } from "../format.js";
import { keyForm } from "../signin.js";
import { sizePicker } from "../sizes.js";
import { T } from "../texts.js";
import { Tray, handedOver } from "../tray.js";
import { attempt, badge, bones, empty, failureNote, save, segments, toast } from "../ui.js";

const QUOTE_PAUSE_MS = 250;

/** Show the page. */
export async function show(view, context) {
  if (!session.customer) return void needsCustomer(view);
  fill(view, bones(8));
  const [models, sizes] = await Promise.all([call("GET", "/v1/models"), call("GET", "/v1/sizes")]);
  const studio = new Studio(models.data.map((one) => one.id), sizes.data);
  fill(view, studio.element());
  await studio.begin(context);
  return () => studio.end();
}

function needsCustomer(view) {
  const notes = h("div");
  fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.studio))),
    h("div", { class: "card narrow stack" }, h("h2", {}, T.studio.needsKey), h("p", {}, T.studio.needsKeyText),
      keyForm(notes, () => dispatchEvent(new Event("sessionchange"))), notes));
}

class Studio {
  constructor(channels, sizes) {
    this.channels = channels;
    this.sizes = sizes;
    this.order = { model: channels.find((one) => one.endsWith("-vip")) ?? channels[0], size: "auto", quality: null, format: "png", n: 1 };
    this.stops = new Set();
    this.tray = new Tray(() => this.changed());
  }

  element() {
    this.prompt = h("textarea", { rows: 5, maxlength: 32000, placeholder: T.studio.promptPlaceholder, on: {
      input: () => this.changed(),
      keydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.generate();
      },
    } });
    this.picker = h("div");
    this.options = h("div", { class: "fields" });
    this.price = h("div", { class: "price", "aria-live": "polite" });
    this.go = button(T.studio.generate, () => this.generate(), { kind: "primary big" });
    this.stage = h("section", { class: "stage", "aria-label": T.studio.stage }, this.blank());
    this.strip = h("ul", { class: "strip", "aria-label": T.studio.strip });
    return [h("h1", { class: "away" }, T.nav.studio), h("div", { class: "studio" },
      h("section", { class: "composer", "aria-label": T.studio.composer },
        field(T.studio.prompt, this.prompt), this.tray.element(),
        this.channels.length > 1 ? segments(T.studio.channel, this.channels.map((one) => [one, one.replace("gpt-image-2", "image-2")]), this.order.model, (value) => this.choose(value)) : null,
        this.picker, this.options,
        h("div", { class: "till" }, this.price, this.go)),
      h("div", { class: "showing" }, this.stage, this.strip))];
  }

  async begin(context) {
    this.choose(this.order.model);
    const given = handedOver();
    if (given) await attempt(() => this.tray.addLink(given));
    if (context.query.get("prompt")) this.prompt.value = context.query.get("prompt");
    this.prompt.focus({ preventScroll: true });
    await this.quote();
  }

  end() {
    for (const stop of this.stops) stop();
    this.tray.end();
    clearTimeout(this.pause);
  }

  blank() {
    return empty("studio", T.studio.blankTitle, T.studio.blankText);
  }

  choose(model) {
    this.order.model = model;
    const known = this.sizes.find((one) => one.model === model);
    fill(this.picker, sizePicker(known, this.order.size, (size) => {
      this.order.size = size;
      this.changed();
    }));
    this.order.size = this.picker.firstChild.dataset.size;
    const qualities = [...new Set(known.sizes.flatMap((one) => Object.keys(one.prices_micros ?? {})))];
    this.order.quality = qualities.length ? "medium" : null;
    fill(this.options,
      qualities.length ? field(T.studio.quality, select(qualities.map((one) => [one, one]), this.order.quality, (value) => {
        this.order.quality = value;
        this.changed();
      })) : null,
      field(T.studio.format, select(["png", "jpeg", "webp"].map((one) => [one, one.toUpperCase()]), this.order.format, (value) => {
        this.order.format = value;
      })));
    this.changed();
  }

  changed() {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.quote(), QUOTE_PAUSE_MS);
  }

  fields() {
    const { model, size, quality, format } = this.order;
    return { model, size, output_format: format, ...(quality ? { quality } : {}) };
  }

  async quote() {
    try {
      const found = await call("POST", "/v1/quote", { body: {
        ...this.fields(), ...(this.prompt.value.trim() ? { prompt: this.prompt.value } : {}), ...(this.tray.size ? { inputs: this.tray.size } : {}),
      } });
      const waits = found.waiting > 0 ? T.studio.waiting(found.waiting) : null;
      const takes = found.generation_s ? T.studio.takes(duration(found.generation_s)) : null;
      fill(this.price, h("b", {}, money(found.total_micros)), h("small", {}, [T.plan(found.size_plan), takes, waits].filter(Boolean).join(" · ")));
      this.go.disabled = false;
    } catch (problem) {
      fill(this.price, h("small", { class: "refused" }, problem.message));
      this.go.disabled = Boolean(problem.status);
    }
  }

  async generate() {
    if (this.go.disabled) return;
    if (!this.prompt.value.trim()) {
      toast(T.studio.needsPrompt, { bad: true });
      this.prompt.focus();
      return;
    }
    this.go.disabled = true;
    const work = new Work(this);
    try {
      fill(this.stage, work.element());
      this.stage.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
      await work.begin(await this.send());
      this.strip.prepend(work.thumb());
    } catch (problem) {
      fill(this.stage, failureNote(problem));
    } finally {
      this.go.disabled = false;
    }
  }

  async send() {
    const fields = { ...this.fields(), prompt: this.prompt.value, async: true, partial_images: 3 };
    const headers = { "idempotency-key": nonce() };
    if (!this.tray.size) return call("POST", "/v1/images/generations", { body: fields, headers });
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
    await this.tray.fill(form);
    return call("POST", "/v1/images/edits", { form, headers });
  }
}

/** One job on the stage and in the strip. */
class Work {
  constructor(studio) {
    this.studio = studio;
    this.prompt = studio.prompt.value;
    this.began = performance.now();
  }

  element() {
    this.frame = h("div", { class: "frame-picture waiting" }, h("div", { class: "bone" }));
    this.state = h("div", { class: "row", "aria-live": "polite" }, badge("queued"));
    this.foot = h("div", { class: "row" });
    this.whole = h("figure", { class: "work" }, this.frame, h("figcaption", { class: "stack" }, this.state, this.foot));
    return this.whole;
  }

  async begin(job) {
    this.job = job;
    const [width, height] = job.size === "auto" ? [1, 1] : job.size.split("x").map(Number);
    this.frame.style.setProperty("aspect-ratio", `${width} / ${height}`);
    this.clock = setInterval(() => this.tick(), 1000);
    const stop = watchJob(job.id, (told) => this.told(told));
    this.stop = () => {
      stop();
      clearInterval(this.clock);
      this.studio.stops.delete(this.stop);
    };
    this.studio.stops.add(this.stop);
    fill(this.foot, button(T.studio.cancel, () => attempt(() => call("POST", `/v1/jobs/${job.id}/cancel`)), { glyph: "close" }));
    this.show(job);
  }

  tick() {
    if (this.seconds) this.seconds.textContent = duration((performance.now() - this.began) / 1000);
  }

  told(event) {
    if (event.type === "job.partial_image") return this.picture(`data:image/${event.output_format};base64,${event.b64_json}`, T.studio.partial(event.partial_image_index + 1));
    this.job = { ...this.job, ...(event.job ?? {}), status: event.status, stage: event.stage ?? this.job.stage };
    this.show(this.job, event);
  }

  picture(address, note) {
    const image = h("img", { src: address, alt: this.prompt.slice(0, 200) });
    fill(this.frame, image);
    this.frame.classList.toggle("partial", Boolean(note));
    this.frame.classList.remove("waiting");
    this.note = note;
    this.mini?.replaceChildren(h("img", { src: address, alt: "" }));
    this.show(this.job);
  }

  show(job, event = {}) {
    this.seconds = h("span", { class: "num" }, duration((performance.now() - this.began) / 1000));
    const step = event.type === "job.attempt_failed" ? T.studio.tryingAgain : T.stages[job.stage] ?? null;
    if (job.status === "completed" && job.image) return this.finished(job);
    fill(this.state, badge(job.status), this.seconds, h("small", {}, [this.note, step].filter(Boolean).join(" · ")));
    if (job.status === "failed" || job.status === "cancelled") this.ended(job);
  }

  finished(job) {
    this.stop();
    const link = localLink(job.image.url);
    fill(this.frame, h("img", { src: link, alt: this.prompt.slice(0, 200) }));
    this.frame.classList.remove("partial", "waiting");
    this.frame.style.setProperty("aspect-ratio", `${job.image.width} / ${job.image.height}`);
    this.mini?.replaceChildren(h("img", { src: link, alt: "" }));
    fill(this.state, badge("completed"), this.seconds, h("small", {}, `${job.image.width} × ${job.image.height} · ${T.plan(job.size_plan)} · ${money(job.price_micros)}`));
    fill(this.foot,
      button(T.download, () => save(link, `${job.id}.${job.image.format}`), { glyph: "download" }),
      button(T.useAsReference, () => attempt(() => this.studio.tray.addLink({ url: link, name: job.id })), { glyph: "reference" }),
      button(T.studio.editMask, () => attempt(async () => {
        this.studio.tray.clear();
        await this.studio.tray.addLink({ url: link, name: job.id });
        await this.studio.tray.paint();
      }), { glyph: "brush" }),
      h("a", { class: "button plain", href: `#/jobs/${job.id}` }, icon("jobs"), T.details));
  }

  ended(job) {
    this.stop();
    const text = job.error?.message ?? T.studio.cancelledText;
    fill(this.frame, h("div", { class: "gone" }, h("p", {}, text), h("p", {}, h("b", {}, T.studio.notCharged))));
    this.frame.classList.remove("waiting");
    fill(this.foot, button(T.again, () => this.studio.generate()), h("a", { class: "button plain", href: `#/jobs/${job.id}` }, icon("jobs"), T.details));
  }

  thumb() {
    this.mini = h("button", { type: "button", class: "mini", "aria-label": this.prompt.slice(0, 80), on: { click: () => fill(this.studio.stage, this.whole) } }, icon("jobs"));
    const seen = this.frame.querySelector("img");
    if (seen) this.mini.replaceChildren(h("img", { src: seen.src, alt: "" }));
    return h("li", {}, this.mini);
  }
}
