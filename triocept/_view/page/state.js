"use strict";
// The state of the page, and where it comes from: the endpoint's stream, recorded files on a server, or data in the page.

const state = {
  status: "connecting", // "live", "lost", "ended", "recorded", "refused" (the key), "failed" (see `problem`)
  problem: "",
  title: "",
  live: false,
  canDecide: false,
  notes: [],
  evaluation: null, // tasks of evaluations
  rows: new Map(), // run -> Row
  calls: new Map(), // id of a call -> Call
  waiting: new Map(), // id of a question -> Question
  seq: 0,
  offset: 0, // the server's time minus the page's, in seconds
  leads: true, // this tab reads the stream
};
const VERSION = 1;
const now = () => Date.now() / 1000 + state.offset;

// Drawing: at most 20 times a second, however many frames arrive.
let redraw = () => {};
let isDue = false;
let drawnAt = 0;
function changed() {
  if (isDue) return;
  isDue = true;
  const draw = () =>
    requestAnimationFrame(() => {
      isDue = false;
      drawnAt = performance.now();
      redraw();
    });
  const wait = 50 - (performance.now() - drawnAt);
  if (wait > 0) setTimeout(draw, wait);
  else draw();
}

// Lists of turns, of the runs that were looked at.
const MOST_RUNS = 8;
const turnLists = new Map(); // run -> TurnList

class TurnList {
  constructor(run) {
    this.run = run;
    this.byId = new Map();
    this.services = new Map();
    this.agents = [];
    this.status = "loading";
    this.problem = "";
    this.version = 0; // grows with each change
    this.sorted = null;
  }
  put(turn) {
    this.byId.set(turn.id, turn);
    this.sorted = null;
    this.version++;
  }
  list() {
    this.sorted ??= [...this.byId.values()].sort((a, b) => a.number - b.number);
    return this.sorted;
  }
}

function turnsOf(run) {
  let found = turnLists.get(run);
  if (!found) {
    found = new TurnList(run);
    turnLists.set(run, found);
    if (turnLists.size > MOST_RUNS) forgetRun(turnLists.keys().next().value);
    loadTurns(found);
  }
  return found;
}

function forgetRun(run) {
  turnLists.delete(run);
  messagesByRun.delete(run);
}

async function loadTurns(list) {
  const before = new Set(list.byId.keys());
  try {
    const found = state.rows.get(list.run)?.kept ? await source.turns(list.run) : { turns: [], services: [] };
    const newer = [...list.byId.values()].filter((turn) => !before.has(turn.id)); // came while it was loading
    list.byId = new Map([...newer, ...found.turns].map((turn) => [turn.id, turn]));
    list.services = new Map(found.services.map((call) => [call.id, call]));
    list.agents = found.agents ?? [];
    list.status = "loaded";
    list.problem = "";
  } catch (error) {
    list.status = "failed";
    list.problem = error.message;
  }
  list.sorted = null;
  list.version++;
  changed();
}

// Messages by number, fetched once each.
const messagesByRun = new Map();
const MOST_AT_ONCE = 500;

/** Return messages by number; undefined in place of those that are not there yet, which are requested. */
function messagesOf(run, numbers) {
  let known = messagesByRun.get(run);
  if (!known) messagesByRun.set(run, (known = new Map()));
  const missing = numbers.filter((number) => !known.has(number)).sort((a, b) => a - b);
  for (let i = 0; i < missing.length; i += MOST_AT_ONCE) loadMessages(run, known, missing.slice(i, i + MOST_AT_ONCE));
  return numbers.map((number) => known.get(number) ?? undefined);
}

async function loadMessages(run, known, numbers) {
  for (const number of numbers) known.set(number, null);
  let found = {};
  let problem = "this message is not kept";
  try {
    found = await source.messages(run, numbers);
  } catch (error) {
    problem = error.message;
    setTimeout(() => numbers.forEach((number) => known.get(number)?.problem && known.delete(number)), 5000);
  }
  for (const number of numbers) known.set(number, found[number] ?? { role: "", content: [], problem });
  changed();
}

// Other answers of the source, by a name.
const MOST_ANSWERS = 100;
const answers = new Map();

/** Return the answer of `load()` under a name: {value}, {problem}, or {} while it is on its way. */
function answerTo(name, load) {
  let found = answers.get(name);
  if (!found) {
    answers.set(name, (found = {}));
    if (answers.size > MOST_ANSWERS) answers.delete(answers.keys().next().value);
    Promise.resolve()
      .then(load)
      .then((value) => (found.value = value))
      .catch((error) => ((found.problem = error.message), setTimeout(() => answers.delete(name), 5000)))
      .then(changed);
  }
  return found;
}

// Frames

const FRAMES = {
  snapshot: applySnapshot,
  row: (data) => state.rows.set(data.run, data),
  call: (data) => state.calls.set(data.id, data),
  more: applyMore,
  asked(data) {
    if (!state.waiting.has(data.id)) onAsked(data);
    state.waiting.set(data.id, data);
  },
  decided(data) {
    if (data.decision) state.calls.get(data.call)?.decisions.push(data.decision);
    onDecided(state.waiting.get(data.id), data.decision, data.id);
    state.waiting.delete(data.id);
  },
  turn: (data) => (state.calls.delete(data.id), turnLists.get(data.run)?.put(data)),
  lost: (data) => state.calls.delete(data.call),
  service(data) {
    const list = turnLists.get(data.run);
    if (list) list.services.set(data.id, data), list.version++;
  },
  evaluation: (data) => (state.evaluation = data),
  bye: () => (state.status = "ended"),
};

function apply(frame) {
  if (frame.event !== "snapshot" && frame.id <= state.seq) return;
  state.seq = Math.max(frame.id, frame.event === "snapshot" ? 0 : state.seq);
  if (Object.hasOwn(FRAMES, frame.event)) FRAMES[frame.event](frame.data);
}

function applySnapshot(data) {
  if (data.version !== VERSION) {
    state.status = "failed";
    state.problem =
      `The data has version ${plain(data.version)}, this page reads version ${VERSION}: ` +
      "open it with the triocept that wrote it.";
    return;
  }
  const first = !state.rows.size;
  Object.assign(state, { title: data.title, live: data.live, canDecide: data.can_decide, notes: data.notes ?? [], evaluation: data.evaluation });
  if (first && state.evaluation && view.run == null) view.panel ??= "tasks";
  state.seq = data.seq;
  state.offset = data.live ? data.now - Date.now() / 1000 : 0;
  state.rows = new Map(data.rows.map((row) => [row.run, row]));
  state.calls = new Map(data.calls.map((call) => [call.id, call]));
  state.waiting = new Map(data.waiting.map((question) => [question.id, question]));
  if (!first) for (const list of turnLists.values()) loadTurns(list);
}

function applyMore({ call: id, part: number, kind, text, tool_call, tool, first }) {
  const call = state.calls.get(id);
  if (!call) return;
  let part = call.parts.find((each) => each.part === number);
  if (!part) call.parts.push((part = { part: number, kind, text: "", call: "", tool: "", skipped: 0 }));
  part.text += text;
  part.call ||= tool_call ?? "";
  part.tool ||= tool ?? "";
  call.first ??= first;
  call.sent += text.length || 1;
}

function applyAll(frames) {
  for (const frame of frames) apply(frame);
  changed();
}

// Sources: each has turns, detail, raw, messages, tools, search, compare; each returns a promise.

class Server {
  constructor(key) {
    this.key = key;
  }
  headers = (more = {}) => ({ authorization: `Bearer ${this.key}`, ...more });
  async request(path, options = {}, isFile = false) {
    let response;
    try {
      response = await fetch(`api/${path}`, { cache: "no-store", headers: this.headers(), ...options });
    } catch {
      throw new Error(state.status === "ended" ? "the endpoint has ended: only what was loaded is left" : "the endpoint does not answer");
    }
    if (response.status === 401) refused();
    if (isFile && response.ok) return response.blob();
    const body = parsed(await response.text());
    if (response.ok) return body;
    const { status } = response;
    throw Object.assign(new Error(body?.error?.message ?? `the server answered with status ${status}`), { status, decision: body?.decision });
  }
  of = (run) => `runs/${encodeURIComponent(run)}`;
  snapshot = () => this.request("snapshot");
  turns = (run) => this.request(`${this.of(run)}/turns`);
  detail = (run, call) => this.request(`${this.of(run)}/turns/${encodeURIComponent(call)}`);
  raw = (run, call) => this.request(`${this.of(run)}/turns/${encodeURIComponent(call)}/raw`);
  async messages(run, numbers) {
    const ranges = [];
    for (const number of numbers) {
      if (ranges.at(-1)?.[1] === number - 1) ranges.at(-1)[1] = number;
      else ranges.push([number, number]);
    }
    const text = ranges.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(",");
    return (await this.request(`${this.of(run)}/messages?numbers=${text}`)).messages;
  }
  async tools(run, number) {
    return (await this.request(`${this.of(run)}/tools/${number}`)).tools;
  }
  search = (text, run) => this.request(`search?q=${encodeURIComponent(text)}${run ? `&run=${encodeURIComponent(run)}` : ""}`);
  compare = (a, b) => this.request(`compare?a=${encodeURIComponent(a)}&b=${encodeURIComponent(b)}`);
  file = (run) => this.request(`${this.of(run)}/file`, {}, true);
  decide(decision) {
    const headers = this.headers({ "content-type": "application/json" });
    return this.request("decide", { method: "POST", headers, body: JSON.stringify(decision) });
  }
}

const MOST_HITS = 200;

class Embedded {
  constructor(data) {
    this.data = data;
  }
  run(run) {
    const found = this.data.runs[run];
    if (!found) throw new Error("this file has no turns of this run");
    return found;
  }
  async turns(run) {
    const { turns, services, agents } = this.run(run);
    return { turns, services, agents };
  }
  async detail(run, call) {
    return { request: {}, drafts: [], notes: {}, has_wire: false, ...this.run(run).details[call] };
  }
  async raw(run, call) {
    const found = this.run(run);
    const turn = found.turns.find((each) => each.id === call);
    const numbers = numbersAt(turn.messages, 0, Infinity);
    const messages = numbers.map((number) => found.messages[number]);
    const answer = turn.answer == null ? null : found.messages[turn.answer];
    const tools = turn.tools == null ? [] : found.tools[turn.tools];
    return { turn: { ...turn, ...found.details[call], messages, answer, tools }, wire: null, curl: null };
  }
  async messages(run, numbers) {
    const all = this.run(run).messages;
    return Object.fromEntries(numbers.filter((n) => all[n]).map((number) => [number, all[number]]));
  }
  async tools(run, number) {
    return this.run(run).tools[number] ?? [];
  }
  async search(text, only) {
    const hits = [];
    const wanted = text.toLowerCase();
    for (const [run, found] of Object.entries(this.data.runs)) {
      if (only && run !== only) continue;
      const first = this.firstCalls(found);
      for (const [number, message] of found.messages.entries()) {
        const whole = wholeText(message);
        const at = whole.toLowerCase().indexOf(wanted);
        if (at < 0) continue;
        if (hits.length === MOST_HITS) return { q: text, hits, more: true };
        const start = Math.max(0, at - 80);
        const excerpt = whole.slice(start, at + text.length + 80);
        const place = { start: at - start, end: at - start + text.length };
        hits.push({ run, call: first.get(number), message: number, role: message.role, excerpt, ...place });
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
    return { q: text, hits, more: false };
  }
  firstCalls(found) {
    const first = new Map();
    for (const turn of found.turns) {
      for (const number of numbersAt(turn.messages, turn.shared, Infinity)) if (!first.has(number)) first.set(number, turn.id);
      if (turn.answer != null && !first.has(turn.answer)) first.set(turn.answer, turn.id);
    }
    return first;
  }
  async compare(a, b) {
    const [one, other] = [this.run(a), this.run(b)];
    const withoutIds = (name, value) => (name === "id" ? undefined : value); // each call has another
    const texts = (found) =>
      found.turns.map((turn) => (turn.answer == null ? turn.outcome : JSON.stringify(found.messages[turn.answer].content, withoutIds)));
    const pairs = [];
    let [i, j, gone, come] = [0, 0, 0, 0];
    for (const [sign] of [...lineDiff(texts(one), texts(other)), [""]]) {
      if (sign === "-") gone++;
      else if (sign === "+") come++;
      else
        for (; gone || come; gone &&= gone - 1, come &&= come - 1) {
          const kind = gone && come ? "changed" : gone ? "only_a" : "only_b";
          pairs.push({ a: gone ? one.turns[i++].id : null, b: come ? other.turns[j++].id : null, kind });
        }
      if (sign === " ") pairs.push({ a: one.turns[i++].id, b: other.turns[j++].id, kind: "same" });
    }
    const rows = this.data.snapshot.rows;
    return { a: rows.find((row) => row.run === a), b: rows.find((row) => row.run === b), pairs };
  }
}

/** Return all text of a message. */
function wholeText(message) {
  const of = (part) =>
    part.part === "ToolResult" ? (part.content ?? []).map(of).join("\n") : (part.text ?? part.arguments ?? "") + (part.name ? ` ${part.name}` : "");
  return (message?.content ?? []).map(of).join("\n");
}

let source = null;

// The stream. Six streams exhaust a browser's connections to one host: one tab reads it, and posts it to the others.

const KEY = "triocept-view-key";
const KEY_IN_ADDRESS = new URLSearchParams(location.hash.slice(1)).get("key"); // before it is removed
let channel = null;

function refused() {
  state.status = "refused";
  sessionStorage.removeItem(KEY);
  changed();
}

function frameOf(block) {
  const frame = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) frame[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return frame.event ? { id: Number(frame.id), event: frame.event, data: JSON.parse(frame.data) } : null;
}

async function readStream() {
  for (let pause = 0.5; ; pause = Math.min(15, pause * 2)) {
    try {
      const known = state.seq ? { "Last-Event-ID": String(state.seq) } : {};
      const response = await fetch("api/stream", { cache: "no-store", headers: source.headers(known) });
      if (response.status === 401) return refused();
      if (!response.ok) throw new Error(`status ${response.status}`);
      state.status = "live";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        pause = 0.5;
        const hasEnd = (rest.slice(-1) + value).includes("\n\n");
        rest += value;
        if (!hasEnd) continue;
        const blocks = rest.split("\n\n");
        rest = blocks.pop();
        const frames = blocks.map(frameOf).filter(Boolean);
        applyAll(frames);
        channel?.postMessage({ frames });
        if (state.status === "ended" || state.status === "failed") return;
      }
      if (!state.live) {
        state.status = "recorded";
        return changed();
      }
    } catch (error) {
      state.problem = error.message;
    }
    state.status = "lost";
    changed();
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
  }
}

async function connect(key) {
  source = new Server(key);
  sessionStorage.setItem(KEY, key);
  state.status = "connecting";
  state.problem = "";
  changed();
  if (!navigator.locks || !window.BroadcastChannel) return readStream();
  const name = `triocept-view ${key}`;
  let early = []; // frames from before the snapshot
  channel?.close();
  channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }) => {
    if (early) early.push(...data.frames);
    else applyAll(data.frames);
    if (state.status !== "failed" && state.status !== "ended") state.status = state.live ? "live" : "recorded";
  };
  let isLeader = false;
  navigator.locks.request(name, async () => {
    isLeader = state.leads = true;
    early = null;
    if (state.status !== "ended") await readStream();
    if (state.status === "refused") return;
    await new Promise(() => {}); // this tab keeps the lock until it is closed
  });
  const held = await navigator.locks.query();
  if (isLeader || !held.held.some((lock) => lock.name === name)) return;
  state.leads = false;
  try {
    const snapshot = await source.snapshot();
    if (isLeader) return;
    applySnapshot(snapshot);
    if (state.status !== "failed") state.status = state.live ? "live" : "recorded";
    const frames = early ?? [];
    early = null;
    applyAll(frames);
  } catch (error) {
    early = null;
    if (state.status !== "refused") state.problem = error.message;
    changed();
  }
}

async function decode(text) {
  if (!window.DecompressionStream) throw new Error("This browser is too old for this file: it has no DecompressionStream. Use a newer one.");
  const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

async function start() {
  const data = document.getElementById("triocept-data");
  if (data) {
    try {
      const document_ = await decode(data.textContent);
      source = new Embedded(document_);
      applySnapshot({ ...document_.snapshot, version: document_.version });
      if (state.status !== "failed") state.status = "recorded";
    } catch (error) {
      state.status = "failed";
      state.problem = window.DecompressionStream ? `The data in this file is damaged: ${error.message}` : error.message;
    }
    return changed();
  }
  const key = KEY_IN_ADDRESS ?? sessionStorage.getItem(KEY) ?? (await askTabs());
  if (key) return connect(key);
  state.status = "refused";
  changed();
}

// A new tab, opened from a link without a key, gets the key from another tab of this endpoint.
const keys = window.BroadcastChannel && !document.getElementById("triocept-data") ? new BroadcastChannel("triocept-view-key") : null;

function askTabs() {
  return new Promise((resolve) => {
    if (!keys) return resolve(null);
    keys.onmessage = ({ data }) => data.key && resolve(data.key);
    keys.postMessage({ wanted: true });
    setTimeout(() => resolve(null), 400);
  });
}

function answerTabs() {
  if (keys)
    keys.onmessage = ({ data }) => {
      if (data.wanted && source?.key && ["live", "recorded"].includes(state.status)) keys.postMessage({ key: source.key });
    };
}
