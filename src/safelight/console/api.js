// The one place that talks to the server. Owns the session, what a failed call becomes for people,
// and paging. The key that somebody signs in with goes out once, in the body of the sign-in, and is
// kept nowhere: the browser has a cookie that no script can read.

import { T } from "./texts.js";

/** A call that was refused, or that did not arrive; `message` is for people. */
export class Failure extends Error {
  constructor(message, { status = 0, code = null, param = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** Who is signed in: `operator` and `customer` are null or what the server says of them. */
export const session = { operator: null, customer: null };

/** Random visible text, also on pages without TLS, where crypto.randomUUID does not exist. */
export function nonce() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Call a route and return its JSON; `form` is sent as it is. */
export async function call(method, path, { body, form, query, headers = {}, signal } = {}) {
  const address = query ? `${path}?${queryOf(query)}` : path;
  const sent = { ...headers };
  if (method !== "GET") Object.assign(sent, proof(path));
  if (body !== undefined) sent["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address, {
      method, headers: sent, signal, credentials: "same-origin", redirect: "error",
      body: form ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Failure(T.errors.unreachable);
  }
  const found = await read(answer);
  if (answer.ok) return found;
  if (answer.status === 401) dispatchEvent(new CustomEvent("signedout", { detail: path.startsWith("/admin") }));
  throw failureOf(answer, found);
}

async function read(answer) {
  if (answer.status === 204) return null;
  try {
    return await answer.json();
  } catch {
    return null; // a proxy's page, or nothing
  }
}

function failureOf(answer, found) {
  const error = found?.error ?? {};
  const wait = Number(answer.headers.get("retry-after"));
  let message = error.message ?? T.errors.status(answer.status);
  if (answer.status === 429 && wait) message += ` ${T.errors.waitFor(wait)}`;
  return new Failure(message, { status: answer.status, code: error.code ?? null, param: error.param ?? null });
}

function queryOf(fields) {
  const pairs = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(pairs).toString();
}

// --- the session: a page of another site can send the cookie along, but not this header ---

const tokens = { operator: null, customer: null };

function proof(path) {
  const token = path.startsWith("/admin/") ? tokens.operator : tokens.customer;
  return token ? { "x-safelight-csrf": token } : {};
}

const DOORS = { operator: "/admin/v1/session", customer: "/v1/session" };

/** Learn who is signed in; true when somebody is. Asks only at the doors that were used before. */
export async function resume() {
  await Promise.all(Object.keys(DOORS).filter(used).map(async (who) => {
    try {
      accept(who, await call("GET", DOORS[who]));
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      note(who, false);
    }
  }));
  return signedIn();
}

// Which doors were used, not with what: the browser alone knows the cookie, and a question at a door
// that was never opened would be a refusal in its log.
function used(who) {
  try {
    return localStorage.getItem(`safelight.door.${who}`) !== null;
  } catch {
    return true; // storage is switched off: ask
  }
}

function note(who, open) {
  try {
    if (open) localStorage.setItem(`safelight.door.${who}`, "");
    else localStorage.removeItem(`safelight.door.${who}`);
  } catch {
    // as above
  }
}

/** Sign in with a key; which door it opens is seen from its beginning. */
export async function signIn(key) {
  const who = key.startsWith("sl_admin_") ? "operator" : "customer";
  accept(who, await call("POST", DOORS[who], { body: { key } }));
}

/** End every session of this browser. */
export async function signOut() {
  for (const who of Object.keys(DOORS)) {
    if (session[who]) await call("DELETE", DOORS[who]);
    session[who] = null;
    tokens[who] = null;
    note(who, false);
  }
}

/** True when somebody is signed in. */
export function signedIn() {
  return Boolean(session.operator ?? session.customer);
}

/** Forget a session that the server has ended. */
export function forget(admin) {
  session[admin ? "operator" : "customer"] = null;
}

function accept(who, found) {
  session[who] = found;
  note(who, true);
  tokens[who] = found.csrf_token;
}

// --- what many pages ask for ---

/** A picture's address on this origin, whatever name the server gives itself. */
export function localLink(url) {
  const address = new URL(url, location.href);
  return address.pathname + address.search;
}

/** A cursor over a list route: `next()` gives its next entries, `more` whether there are any. */
export function pages(path, query) {
  let after = null;
  return {
    more: true,
    async next() {
      const found = await call("GET", path, { query: { ...query, after } });
      after = found.last_id ?? after;
      this.more = Boolean(found.has_more);
      return found.data;
    },
  };
}

/** Watch a job's events; returns a function that stops it. */
export function watchJob(id, on) {
  const source = new EventSource(`/v1/jobs/${encodeURIComponent(id)}/events`);
  for (const kind of ["queued", "in_progress", "attempt_failed", "cancelling", "partial_image", "completed", "failed", "cancelled"]) {
    source.addEventListener(`job.${kind}`, (event) => {
      const told = JSON.parse(event.data);
      on(told);
      if (["completed", "failed", "cancelled"].includes(told.status)) source.close();
    });
  }
  return () => source.close();
}
