// Every word that the console says, in one place: a translation is a copy of this file. Functions
// take what a sentence is about. What the server says (errors, reasons) comes as it is.

const STATES = {
  queued: "waiting", in_progress: "being made", completed: "completed", failed: "failed", cancelled: "cancelled",
  validating: "being read", finalizing: "being written", cancelling: "being cancelled", expired: "expired",
  ready: "ready", returning: "coming back", cooling: "cooling", ejected: "out", down: "endpoint down",
  exhausted: "no money upstream", refused: "key refused", paused: "paused", idle: "not used yet",
  active: "active", revoked: "revoked", frozen: "stopped", raised: "raised", resolved: "resolved", ok: "ok",
};

const REASONS = {
  rate_limited: "the vendor limited it", unavailable: "the vendor was not available", not_served: "the account cannot make this",
  upstream_error: "the vendor failed", timeout: "it took too long", bad_picture: "the picture was not usable", unreachable: "the vendor was not reached",
  refused: "the vendor refused it", interrupted: "it was interrupted",
};

const ORDINALS = ["first", "second", "third"];

export const T = {
  signInTitle: "Sign in · safelight",
  skip: "Skip to the page",
  pages: "Pages",
  menu: "Menu",
  operatorPages: "Operation",
  loading: "Loading",
  again: "Try again",
  more: "Show more",
  close: "Close",
  cancel: "Cancel",
  no: "No, keep it",
  save: "Save",
  free: "free",
  running: "running",
  actions: "Actions",
  details: "Details",
  download: "Download",
  useAsReference: "Use as reference",
  signOut: "Sign out",
  copy: "Copy",
  copied: "Copied.",
  nav: {
    studio: "Studio", gallery: "Gallery", jobs: "Jobs", runs: "Runs and batches", statement: "Statement",
    pool: "Pool", customers: "Customers and keys", metrics: "Metrics", system: "System and alerts",
  },
  roles: { viewer: "Operator, may look", operator: "Operator", owner: "Owner", customer: "Customer" },
  theme: { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" },
  states: STATES,
  stages: { sent: "sent to the vendor", received: "received", verified: "checked", stored: "stored", settled: "settled" },
  outcomes: {
    ok: "answered", throttled: "429", fast: "failed quickly", slow: "too slow", bad_output: "unusable picture", auth: "key refused",
    quota: "no money upstream", capability: "not served", client: "refused", local: "did not leave", lost: "lost", superseded: "another was quicker",
  },
  kinds: { settle: "Picture", release: "Free", topup: "Top-up", refund: "Refund", adjust: "Correction" },

  plan(plan) {
    if (!plan) return "";
    if (plan === "native") return "native pixels";
    if (plan === "auto") return "the model chooses";
    if (plan.startsWith("crop from")) return `cropped from ${plan.slice(10).replace("x", " × ")}`;
    if (plan.startsWith("resample from")) return `resampled from ${plan.split(" ")[2].replace("x", " × ")}`;
    if (plan.startsWith("hint")) return "size is a hint";
    return plan;
  },

  signin: {
    title: "Sign in",
    lead: "With an API key you see your pictures, jobs and statement. With an admin key you see the whole gateway.",
    key: "Key",
    placeholder: "sl_live_… or sl_admin_…",
    hint: "It is sent once and not kept in this browser.",
    go: "Sign in",
  },

  shortcuts: {
    open: "Shortcuts", title: "Keyboard shortcuts", pages: "Open a page", everywhere: "Everywhere",
    search: "Search on this page", help: "Show this list", escape: "Close a dialog", lists: "Move in a list", enter: "Open what is marked",
    generate: "Generate", pin: "Pin or unpin", download: "Download", reference: "Use as reference",
  },

  errors: {
    unreachable: "The gateway cannot be reached. Check the network, then try again; nothing was ordered twice.",
    status: (status) => `The gateway answered with status ${status} and no explanation. Try again in a moment.`,
    waitFor: (seconds) => `Try again in ${seconds} s.`,
    todo: {
      insufficient_balance: "Ask the operator for a top-up, or choose a smaller order.",
      insufficient_quota: "Ask the operator for a top-up, or choose a smaller order.",
      budget_exceeded: "The budget of this key is used up; the operator can raise it.",
      invalid_api_key: "Look whether the key was copied whole. An operator can make a new one.",
      invalid_admin_key: "Make one with “safelight admin keys create NAME” on the machine of the gateway.",
      customer_frozen: "Orders of this customer were stopped because something in the books did not fit. The operator can look and let them go on.",
      moderation_blocked: "Change the words of the prompt. A refused picture costs nothing.",
      forbidden: "Your role does not allow this. An owner can give you another one.",
    },
  },

  studio: {
    composer: "Order", stage: "Picture", strip: "Pictures of this visit",
    prompt: "Prompt", promptPlaceholder: "A launch poster in red light, large title “SAFELIGHT”",
    channel: "Channel", quality: "Quality", format: "Format", generate: "Generate", cancel: "Cancel",
    blankTitle: "Nothing on the table yet", blankText: "Write a prompt, choose a shape and generate. Drop pictures in to edit them.",
    needsPrompt: "Write a prompt first.",
    needsKey: "Order as a customer", needsKeyText: "Pictures are ordered and paid by a customer. Give an API key of the customer; your admin session stays.",
    waiting: (count) => `${count} before you`, takes: (text) => `about ${text}`,
    partial: (index) => `${ORDINALS[index - 1] ?? index} glimpse`,
    tryingAgain: "an attempt failed, trying again",
    editMask: "Edit with mask", notCharged: "You were not charged.", cancelledText: "Cancelled.",
  },
  sizes: { shape: "Shape", tier: "Size", pixels: "Pixels", auto: "The model chooses the size." },
  tray: {
    choose: "Choose pictures to edit", first: "Drop pictures here, paste or choose", more: "Add", mask: "Mask", masked: "Masked",
    remove: (name) => `Remove ${name}`, wrongType: (name) => `${name} is not a PNG, JPEG or WebP file.`,
    full: (most) => `An edit takes at most ${most} pictures.`, gone: "This picture is not kept any more.",
  },
  mask: {
    title: "Paint what may change", lead: "What you paint is made anew; the rest stays. With the keyboard: arrows move, Space paints, Shift and arrows draw.",
    canvas: "Painting over the picture", size: "Brush", erase: "Erase", undo: "Undo", invert: "Invert", clear: "Clear", done: "Use this mask",
  },

  gallery: {
    search: "Search", searchPlaceholder: "Words of the prompt", show: "Show", all: "All pictures", pinned: "Pinned",
    pin: "Pin", unpin: "Unpin", pinnedToast: "Pinned: it is kept until you unpin it.", unpinnedToast: "Unpinned: it goes by itself later.",
    open: "Open", picture: "Picture", untold: "Its prompt is not kept.", forGood: "kept until unpinned",
    emptyTitle: "No pictures yet", emptyText: "What you generate is kept here for a day, or for as long as you pin it.", emptyAction: "Open the Studio",
    noneTitle: "Nothing found", noneText: "No picture fits this search. Try fewer words, or show all pictures.",
    remove: "Delete", removeTitle: "Delete this picture?", removeText: "Its bytes are gone at once and cannot be brought back. Its line on the statement stays.",
  },
  jobs: {
    live: "live", any: "Any state", anyChannel: "Any channel", one: "Job", back: "All jobs", steps: "What happened", result: "The delivered picture", cancel: "Cancel",
    emptyTitle: "No jobs here", emptyText: "Each picture is one job. Jobs appear here as soon as they are ordered.",
    cancelTitle: "Cancel this job?", cancelText: "No further attempt is made. A picture that is being made already is still delivered and charged.",
  },
  event(told) {
    const number = told.attempt > 1 ? ` (attempt ${told.attempt})` : "";
    switch (told.type) {
      case "job.queued": return ["Accepted", told.queue_position ? `${told.queue_position} before it` : "The price is held."];
      case "job.in_progress": return [{ sent: `Sent to a vendor${number}`, received: "Picture received", verified: "Checked", stored: "Stored and read back" }[told.stage] ?? "Begun", null];
      case "job.attempt_failed": return [`Attempt ${told.attempt} failed`, REASONS[told.reason] ?? told.reason];
      case "job.cancelling": return ["Cancelling", "No further attempt is made."];
      case "job.completed": return ["Delivered and charged", null];
      case "job.failed": return ["Failed, free", told.job?.error?.message ?? null];
      case "job.cancelled": return ["Cancelled, free", null];
      default: return [told.type, null];
    }
  },
  runs: {
    lead: "Many pictures that were ordered together. A batch survives restarts and buys each line once.",
    progress: "Progress", until: "Until", output: "output", errors: "errors", failed: (number) => `${number} failed`,
    emptyTitle: "No batches yet", emptyText: "Send a file of orders with “safelight batch submit in.jsonl”, or with the SDK’s batches.create.",
    cancelTitle: "Cancel this batch?", cancelText: "What has not begun costs nothing. What is being made is delivered and charged.",
  },
  statement: {
    lead: "One line for each picture; what failed stands here as free, with the reason.",
    csv: "Export CSV", month: "Month (UTC)", always: "All", kind: "Kind", everything: "Everything",
    available: "Available", held: "Held for open jobs", posted: "Balance", line: "Credit line", budget: (period) => `Key budget left (${period})`,
    emptyTitle: "No lines", emptyText: "Pictures, top-ups and corrections stand here as soon as there are some.",
  },
  pool: {
    lead: "Which account serves, which one rests, and why. Pausing takes effect in every process within seconds.",
    emptyTitle: "No accounts", emptyText: "Without accounts the built-in proof renderer serves every channel. Accounts are named in safelight.toml.",
    accounts: "Accounts", groups: "Limiter groups", pause: "Pause", resume: "Resume",
    pauseTitle: (name) => `Pause ${name}?`, pauseText: "It gets no new attempt until it is resumed, also after a restart. Calls under way end as usual.",
    reason: "Reason", pausedToast: (name) => `${name} is paused.`, resumedToast: (name) => `${name} serves again.`,
    configured: "configured", learned: "learnt", unlimited: "no limit known", until: "until",
    serving: "serving", resting: "resting", perMinute: "a minute",
  },
  customers: {
    lead: "Who pays, what they may spend, and with which keys they come.",
    create: "New customer", name: "Name", credit: "First credit, dollars", search: "Search", searchPlaceholder: "Name",
    emptyTitle: "No customers yet", emptyText: "Make one: it gets a key and credit, and can order at once.",
    noneTitle: "Nobody found", noneText: "No customer has such a name.",
    keyTitle: "This is the key", keyText: "It is shown only now. Copy it and hand it over; it can be revoked at any time.",
    balance: "Balance", keys: "Keys", newKey: "New key", keyName: "Name of the key", revoke: "Revoke",
    revokeTitle: "Revoke this key?", revokeText: "Calls with it are refused from now on. Jobs under way end as usual.",
    topUp: "Top up", topUpAmount: "Dollars", topUpReason: "Reason (shown on the statement)", toppedUp: "Topped up.",
    budgets: "Budgets", budgetText: "The most that this key may spend; empty is no budget.", day: "A day, dollars", month: "A month, dollars", total: "In all, dollars",
    budgetSet: "Budgets are set.", freeze: "Stop orders", unfreeze: "Let orders go on", statement: "Statement", jobs: "Jobs",
    audit: "Audit", auditEmpty: "Nothing was done yet.", back: "All customers", badAmount: "Write dollars such as 25 or 0.50.",
    line: "Credit line", lineText: "How much the customer may owe. 0 is prepaid.", lineSet: "The credit line is set.",
  },
  metrics: {
    lead: "From the books: each finished job and each attempt is counted once.",
    span: "Span", hour: "Last hour", day: "Last day", week: "Last week",
    absent: "Plots need the Python package youplot, which brings the charting library. The figures stand in /metrics as well.",
    empty: "Nothing happened in this span.",
    generation: "Generation time", generationText: "Seconds from order to picture.",
    errors: "Error rate", errorsText: "Visible: the job failed. Hidden: another attempt made its picture.",
    throttled: "429s absorbed", throttledText: "Refusals of vendors that no caller saw.",
    rate: "Images a minute", rateText: "Delivered, against what the accounts’ limits allow.",
    links: "Download success", linksText: "Links fetched as an outsider would.",
    money: "Money", moneyText: "Settled, and what the vendors cost.",
    median: "median", p95: "95th percentile", hidden: "hidden", visible: "visible", made: "made", capacity: "capacity", absorbed: "absorbed",
    share: "success", settled: "settled", cost: "vendor cost", now: "now", noProber: "The prober is off.",
    figures: "Figures", time: "Time",
  },
  system: {
    lead: "What needs a look, and what this gateway runs on.",
    alerts: "Alerts", noAlerts: "Nothing is raised. Thresholds are in [alerts] of the configuration.",
    verification: "Verification of the books", verify: "Verify now", verified: "The books fit together.", findings: (number) => `${number} findings`,
    verifying: "Verifying …", processes: "Processes", about: "This gateway", sessions: "Browser sessions", end: "End", yes: "yes", no: "no",
    audit: "What operators did",
  },
  words: {
    picture: "Picture", state: "State", channel: "Channel", customer: "Customer", size: "Size", plan: "Size plan", ordered: "Ordered", took: "Took",
    attempts: "Attempts", price: "Price", prompt: "Prompt", ended: "Ended", expected: "Expected", request: "Request", sha256: "SHA-256", money: "Money",
    charged: "Charged", whyFree: "Why free", vendorCost: "Vendor cost", when: "When", what: "What", job: "Job", reason: "Reason", amount: "Amount",
    balance: "Balance", batch: "Batch", account: "Account", group: "Group", limit: "Limit a minute", inFlight: "In flight", score: "Score", latency: "Median",
    success: "Success", perPicture: "Cost a picture", delivered: "Delivered", made: "Made", pixels: "Pixels", file: "File", keptUntil: "Kept until",
    key: "Key", created: "Created", lastUsed: "Last used", spent: "Spent", who: "Who", subject: "On", outcome: "Outcome", from: "From", name: "Name",
    accounts: "Accounts", upstream: "Upstream", seen: "Seen",
  },
};
