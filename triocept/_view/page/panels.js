"use strict";
// The panels: runs, turns with their times, one turn, what waits for a decision, search, comparison.

const view = {
  run: null,
  turn: null, // id of a turn, of a call in flight or of a service call; null: no choice
  follows: true, // shows the newest call, until a turn is chosen
  panel: null, // "search", "compare", "tasks"
  query: "",
  everywhere: true, // searches all runs
  other: null, // run to compare with
  runFilter: "",
  turnFilter: "",
  conversation: null,
  found: null, // number of a message that a search found, or id of a question to show
  mark: "",
  question: null, // id of the question in front
  help: false,
  base: null, // number of the turn to compare with, if it was chosen
};
const toasts = [];
const BY = "triocept-view-name";

// Selection, and the address: #run=…&turn=…

function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  view.run = address.get("run");
  view.turn = address.get("turn");
  view.follows = view.turn == null;
  view.other = address.get("compare");
  view.query = address.get("q") ?? view.query;
  view.panel = view.other ? "compare" : address.get("q") ? "search" : null;
  if (address.has("key")) writeAddress();
}

function writeAddress(isNew = false) {
  const address = new URLSearchParams();
  if (view.run) address.set("run", view.run);
  if (view.turn != null && !view.follows) address.set("turn", view.turn);
  if (view.panel === "search" && view.query) address.set("q", view.query);
  if (view.panel === "compare" && view.other) address.set("compare", view.other);
  const text = address.size ? `#${address}` : location.pathname + location.search;
  history[isNew ? "pushState" : "replaceState"](null, "", text);
}

function select(run, turn = null, more = {}) {
  const isNew = run !== view.run;
  if (isNew) Object.assign(view, { turnFilter: "", conversation: null });
  const panel = view.panel === "tasks" && turn != null ? null : view.panel;
  Object.assign(view, { run, turn, follows: turn == null, found: null, mark: "", base: null, panel }, more);
  writeAddress(isNew);
  changed();
}

const isNarrow = () => matchMedia("(max-width: 760px)").matches;

/** Choose a run if none is chosen, and follow the newest call. */
function settle() {
  if (view.run == null && !isNarrow()) {
    const rows = [...state.rows.values()];
    view.run = (rows.find((row) => row.state === "waiting") ?? rows.findLast((row) => row.in_flight) ?? rows.at(-1))?.run ?? null;
  }
  if (view.run == null || !view.follows || (view.panel && view.panel !== "tasks") || isNarrow()) return;
  view.turn = itemsOf(view.run).at(-1)?.id ?? null;
}

function toast(text, isBad = false) {
  const each = { text, isBad, id: `${performance.now()} ${text}` };
  toasts.push(each);
  if (toasts.length > 4) toasts.shift();
  setTimeout(() => (toasts.splice(toasts.indexOf(each), toasts.includes(each) ? 1 : 0), changed()), 7000);
  changed();
}

const onAsked = (question) => question.here && state.waiting.size && toast(`${plain(question.tool)} waits for a decision`);

function onDecided(question, decision, id) {
  if (mine.delete(id)) return;
  if (!question) return;
  toast(
    decision
      ? `${plain(question.tool)}: ${VERBS[decision.kind] ?? plain(decision.kind)} by ${plain(decision.by || "another policy")}`
      : `${plain(question.tool)} does not wait any more: the call or its rollout ended`,
  );
}

// Runs

const STATES = {
  waiting: ["◆", "waits for a decision"],
  running: ["●", "a call is in flight"],
  idle: ["○", "open, no call"],
  ended: ["✓", "ended"],
  "ended, with gaps": ["△", "ended, but lines of its file are missing or changed"],
  failed: ["✕", "failed"],
  stopped: ["■", "stopped"],
  cut: ["…", "the file has no end of this rollout"],
};

function State({ row }) {
  const [sign, meaning] = STATES[row.state] ?? ["?", plain(row.state)];
  return html`<span class=${`state ${row.state in STATES ? row.state : ""}`} title=${meaning}><span aria-hidden="true">${sign}</span> ${plain(row.state)}</span>`;
}

/** Only the rows in view are in the page. */
class VirtualList extends Component {
  constructor(props) {
    super(props);
    this.state = { top: 0, height: 800 };
    this.onScroll = (event) => this.setState({ top: event.target.scrollTop });
    this.onKey = (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const { items, selected, onSelect } = this.props;
      const at = items.findIndex((item) => item.id === selected);
      const next = items[Math.max(0, Math.min(items.length - 1, at + step))];
      if (next) onSelect(next);
    };
  }
  componentDidMount() {
    this.observer = new ResizeObserver(() => this.setState({ height: this.base.clientHeight }));
    this.observer.observe(this.base);
    this.reveal();
  }
  componentDidUpdate(before) {
    if (before.selected !== this.props.selected || (this.props.sticks && before.items.length !== this.props.items.length)) this.reveal();
  }
  componentWillUnmount() {
    this.observer.disconnect();
  }
  reveal() {
    const { items, selected, rowHeight } = this.props;
    const at = items.findIndex((item) => item.id === selected);
    if (at < 0) return;
    const { scrollTop, clientHeight } = this.base;
    if (at * rowHeight < scrollTop) this.base.scrollTop = at * rowHeight;
    else if ((at + 1) * rowHeight > scrollTop + clientHeight) this.base.scrollTop = (at + 1) * rowHeight - clientHeight;
  }
  render({ items, selected, rowHeight, row, label, name, onSelect, onWindow }, { top, height }) {
    const first = Math.max(0, Math.floor(top / rowHeight) - 3);
    const last = Math.min(items.length, Math.ceil((top + height) / rowHeight) + 3);
    const shown = items.slice(first, last);
    const more = onWindow?.(shown);
    const current = shown.some((item) => item.id === selected) ? `${name}-${selected}` : undefined;
    return html`<div class="list" role="listbox" tabindex="0" aria-label=${label} aria-activedescendant=${current}
        onScroll=${this.onScroll} onKeyDown=${this.onKey}>
      <div class="list-space" role="presentation" style=${{ height: `${items.length * rowHeight}px` }}>
        ${shown.map((item, i) => html`<div key=${item.id} id=${`${name}-${item.id}`} role="option" aria-selected=${item.id === selected}
            aria-setsize=${items.length} aria-posinset=${first + i + 1} class=${`row ${item.id === selected ? "selected" : ""}`}
            style=${{ top: `${(first + i) * rowHeight}px`, height: `${rowHeight}px` }} onClick=${() => onSelect(item)}>
          ${row(item, more)}
        </div>`)}
      </div>
    </div>`;
  }
}

/** Return the rows of runs, child rollouts below their parents, filtered. */
function runItems() {
  const words = view.runFilter.toLowerCase().split(/\s+/).filter(Boolean);
  const children = new Map();
  for (const row of state.rows.values()) {
    const parent = row.parent && state.rows.has(row.parent) ? row.parent : null;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(row);
  }
  const items = [];
  const add = (parent, depth) => {
    for (const row of children.get(parent) ?? []) {
      const text = () => `${titleOf(row)} ${row.file} ${row.rollout} ${row.run} ${row.state} ${row.agent} ${row.model} ${row.text} ${row.error} ` +
        `${JSON.stringify(row.metadata)} ${JSON.stringify(row.scores)}`.toLowerCase();
      const lower = words.length ? text().toLowerCase() : "";
      if (words.every((word) => lower.includes(word))) items.push({ id: row.run, row, depth: Math.min(depth, 6) });
      add(row.run, depth + 1);
    }
  };
  add(null, 0);
  return items;
}

function lastWords(row) {
  if (row.in_flight) {
    for (const call of state.calls.values()) {
      const part = call.run === row.run ? call.parts.at(-1) : null;
      if (part) return oneLine((part.tool ? `${part.tool} ` : "") + part.text.slice(-160));
    }
  }
  return oneLine(row.error || row.text);
}

const scoresOf = (row) => Object.entries(row.scores ?? {}).map(([name, value]) => `${plain(name)} ${typeof value === "number" ? Number(value.toFixed(3)) : plain(JSON.stringify(value))}`).join(" · ");

function RunRow({ row, depth }) {
  const about = row.estimated ? "~" : "";
  return html`<div class="run-row" style=${{ paddingLeft: `${depth * 14}px` }}>
    <div class="line"><strong class="grow cut">${depth ? "↳ " : ""}${titleOf(row)}</strong><${State} row=${row} /></div>
    <div class="line small dim"><span class="grow cut">${[row.agent, row.model].map(oneLine).filter(Boolean).join(" · ") || "no call yet"}</span>
      <span>${plural(row.turns, "turn")}${row.failed ? html`<span class="bad-text">, ${row.failed} failed</span>` : ""}</span></div>
    <div class="line small dim"><span class="figures">${about}${count(row.input_tokens)} in · ${about}${count(row.output_tokens)} out${row.cost != null ? ` · ${money(row.cost)}` : ""}</span>
      <span class="cut grow">${scoresOf(row)}</span></div>
    <div class="line small"><span class=${`cut grow ${row.error ? "bad-text" : ""}`}>${lastWords(row)}</span>${idOf(row)}</div>
  </div>`;
}

function Runs() {
  const items = runItems();
  const total = state.rows.size;
  return html`<section class="runs" aria-label="Rollouts">
    <div class="bar"><h2>Rollouts <span class="dim">${items.length === total ? total : `${items.length} of ${total}`}</span></h2>
      <input type="search" class="grow" placeholder="filter" aria-label="Filter rollouts" value=${view.runFilter}
        onInput=${(event) => ((view.runFilter = event.target.value), changed())} />${state.evaluation && html`<button type="button" onClick=${() => ((view.panel = "tasks"), changed())}>Tasks</button>`}</div>
    ${items.length
      ? html`<${VirtualList} name="run" label="Rollouts" items=${items} selected=${view.run} rowHeight=${84}
          row=${(item) => html`<${RunRow} ...${item} />`} onSelect=${(item) => select(item.id, null, { panel: view.panel === "compare" ? null : view.panel })} />`
      : html`<p class="dim pad">${total ? "No rollout matches the filter." : state.live ? "No rollout yet. It appears here when a program opens one." : "There is no rollout."}</p>`}
  </section>`;
}

// Turns

const conversationOf = (item) => (item.conversation ? `${item.conversation.kind}:${item.conversation.id}` : "");
const KINDS = { main: "main", sub_agent: "sub-agent", side: "side call", tool: "from a tool" };
const caches = new WeakMap(); // TurnList -> {version, items}

/** Return turns, service calls and calls in flight of a run, in the order of their beginning. */
function itemsOf(run, isFiltered = false) {
  const list = turnsOf(run);
  let found = caches.get(list);
  if (found?.version !== list.version) {
    const services = [...list.services.values()].map((call) => ({ ...call, isService: true }));
    const items = services.length ? [...list.list(), ...services].sort((a, b) => a.at - b.at) : list.list();
    caches.set(list, (found = { version: list.version, items }));
  }
  let items = found.items;
  const flying = [...state.calls.values()].filter((call) => call.run === run && !list.byId.has(call.id));
  if (flying.length) items = [...items, ...flying.map((call) => ({ ...call, isLive: true }))];
  if (!isFiltered) return items;
  const words = view.turnFilter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length && !view.conversation) return items;
  return items.filter((item) => {
    if (view.conversation && conversationOf(item) !== view.conversation) return false;
    const { conversation, error } = item;
    const text = words.length ? [item.text, item.calls, item.model, item.outcome, item.name, item.stop, conversation?.name,
      KINDS[conversation?.kind], error?.message, `#${item.number}`].join(" ").toLowerCase() : "";
    return words.every((word) => text.includes(word));
  });
}

/** Return the conversations of a run as a tree: in order, with depth, turns and the newest turn. */
function outline(items) {
  const found = new Map();
  for (const item of items) {
    if (item.isService) continue;
    const id = conversationOf(item);
    let each = found.get(id);
    if (!each) found.set(id, (each = { ...item.conversation, id, turns: 0, first: item.id, tokens: 0, isLive: false }));
    each.turns++;
    each.last = item;
    each.name ||= item.conversation?.name;
    each.isLive ||= Boolean(item.isLive);
    each.tokens += (item.usage?.input_tokens ?? 0) + (item.usage?.output_tokens ?? 0);
    if (item.relation?.kind === "sub_agent" && item.relation.turn) each.begunBy ??= item.relation.turn;
  }
  const byTurn = new Map(items.map((item) => [item.id, conversationOf(item)]));
  for (const each of found.values()) {
    const parents = [...found.values()].filter((other) => other.id !== each.id && other.kind !== "side");
    const parent = (each.begunBy && byTurn.get(each.begunBy)) ?? parents.find((other) => each.parent && other.id.endsWith(`:${each.parent}`))?.id;
    each.above = parent !== each.id ? parent : undefined;
    if (each.kind === "side") each.above ??= found.has(`main:${each.id.slice(5)}`) ? `main:${each.id.slice(5)}` : undefined;
  }
  const ordered = [];
  const add = (above, depth) => {
    for (const each of found.values()) {
      if (each.above !== above || each.depth !== undefined) continue;
      each.depth = depth;
      ordered.push(each);
      add(each.id, depth + 1);
    }
  };
  add(undefined, 0);
  for (const each of found.values()) if (each.depth === undefined) (each.depth = 1), ordered.push(each);
  return ordered;
}

const outlines = new WeakMap();

/** Return the outline, made again only if a turn or a call was added. */
function outlineOf(list, items) {
  const name = `${list.version} ${items.length}`;
  let found = outlines.get(list);
  if (found?.name !== name) {
    const ordered = outline(items);
    outlines.set(list, (found = { name, ordered, byId: new Map(ordered.map((each) => [each.id, each])) }));
  }
  return found;
}

const nameOf = (conversation) => oneLine(conversation?.name) || KINDS[conversation?.kind] || oneLine(conversation?.kind);

/** Return the axis of times for the rows in view. Long stretches without a call are shortened. */
function axisOf(items) {
  const spans = items.map((item) => [item.at, item.isLive ? Math.max(now(), item.at) : item.at + (item.duration ?? 0)]).sort((a, b) => a[0] - b[0]);
  const busy = [];
  for (const [start, end] of spans) {
    const last = busy.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else busy.push([start, end]);
  }
  const total = busy.reduce((sum, [start, end]) => sum + end - start, 0) || 1;
  const marks = []; // [time, place]
  let place = 0;
  busy.forEach(([start, end], i) => {
    if (i) place += Math.min(start - busy[i - 1][1], total * 0.04);
    marks.push([start, place]);
    place += end - start;
    marks.push([end, place]);
  });
  const whole = place || 1;
  return (time) => {
    let before = marks[0];
    for (const mark of marks) {
      if (mark[0] > time) {
        const share = (time - before[0]) / (mark[0] - before[0] || 1);
        return Math.max(0, (100 * (before[1] + share * (mark[1] - before[1]))) / whole);
      }
      before = mark;
    }
    return 100;
  };
}

function TimeBar({ item, axis }) {
  const end = item.isLive ? now() : item.at + (item.duration ?? 0);
  const left = Math.min(99, axis(item.at));
  const width = Math.max(1, axis(end) - left);
  const share = (time) => `${Math.max(0, Math.min(100, (100 * (axis(time) - left)) / width))}%`;
  const waited = item.isLive ? end - (asksFor(item)?.at ?? end) : item.waited ?? 0; // at the end, even if it was between drafts
  const kind = item.isService ? "service" : item.isLive ? "live" : item.outcome === "answered" ? "" : "bad";
  const title = `${seconds(end - item.at)}${item.waited >= 0.05 ? `, of them ${seconds(item.waited)} for decisions` : ""}${item.first != null ? `, first token after ${seconds(item.first)}` : ""}`;
  const style = { left: `${left}%`, width: `${width}%`, "--first": share(item.first != null ? item.at + item.first : 0), "--waits": waited >= 0.05 ? share(end - waited) : "100%" };
  return html`<span class="track" title=${title}><span class=${`time ${kind}`} style=${style}></span></span>`;
}

const asksFor = (call) => state.waiting.size > 0 && [...state.waiting.values()].find((each) => each.call === call.id && each.run === call.run);
const SHORT = { compaction: "compacted", rewrite: "rewritten", retry: "retry", repeat: "repeated" };

function TurnRow({ item, axis, depth }) {
  if (item.isService)
    return html`<div class="turn-row"><div class="line"><span class="number">↔</span><span class="grow cut">${oneLine(item.kind)} <strong>${oneLine(item.name)}</strong></span>
        <span class=${item.error ? "bad-text small" : "dim small"}>${oneLine(item.outcome)}</span></div>
      <div class="line small dim"><span class="grow cut">${item.error ? oneLine(item.error.message) : "service of the program"}</span><span>${seconds(item.duration)}</span><${TimeBar} item=${item} axis=${axis} /></div></div>`;
  const [part, asked] = item.isLive ? [item.parts.at(-1), asksFor(item)] : [];
  const text = item.isLive
    ? part ? oneLine((part.tool ? `${part.tool} ` : "") + part.text.slice(-200)) : asked ? `${oneLine(asked.tool)} waits for a decision` : "waits for the first token …"
    : item.error ? oneLine(item.error.message) : oneLine(item.text);
  const kind = item.conversation && item.conversation.kind !== "main" ? nameOf(item.conversation) : "";
  const tags = [kind, asked && `waits ${seconds(Math.max(0, now() - asked.at))}`, SHORT[item.relation?.kind], item.system_changed && "system changed", item.tools_changed && "tools changed",
    item.outcome && item.outcome !== "answered" && item.outcome, item.decisions?.length && "decided", item.drafts && plural(item.drafts, "draft")].filter(Boolean);
  return html`<div class="turn-row" style=${{ paddingLeft: `${Math.min(depth, 5) * 14}px` }}>
    <div class="line"><span class="number">${item.isLive ? "●" : item.number}</span>
      <span class=${`grow cut ${item.error ? "bad-text" : ""}`}>${text || (item.calls?.length ? "" : html`<span class="dim">no text</span>`)}
        ${(item.calls ?? []).slice(0, 4).map((name) => html` <span class="tool">${oneLine(name)}</span>`)}</span></div>
    <div class="line small dim"><span class="grow cut">${tags.map((tag) => html`<span class="tag">${plain(tag)}</span> `)}${item.usage ? `${item.usage.estimated ? "~" : ""}${count(item.usage.input_tokens)} → ${count(item.usage.output_tokens)}` : ""}${item.cost != null ? ` · ${money(item.cost)}` : ""}</span>
      <span>${seconds(item.isLive ? Math.max(0, (asked?.at ?? now()) - item.at) : item.duration - item.waited)}</span><${TimeBar} item=${item} axis=${axis} /></div>
  </div>`;
}

function Turns() {
  const row = state.rows.get(view.run);
  const list = turnsOf(view.run);
  const all = itemsOf(view.run);
  const items = itemsOf(view.run, true);
  const { ordered, byId } = outlineOf(list, all);
  const filter = (event) => ((view.turnFilter = event.target.value), changed());
  return html`<section class="turns" aria-label="Turns">
    <div class="bar"><button type="button" class="back" aria-label="Back to the rollouts" onClick=${() => ((view.run = view.turn = null), writeAddress(), changed())}>‹</button>
      <h2>Turns <span class="dim">${items.length === all.length ? all.length : `${items.length} of ${all.length}`}</span></h2>
      <input type="search" class="grow" placeholder="filter" aria-label="Filter turns" value=${view.turnFilter} onInput=${filter} />
      ${state.live && html`<button type="button" aria-pressed=${view.follows} title="Show the newest call (l)" onClick=${() => select(view.run)}>Follow</button>`}</div>
    ${row ? html`<${RunHead} row=${row} list=${list} />` : html`<p class="bad pad">This rollout is not here: it is too old, or the link is of another endpoint or file.</p>`}
    ${ordered.length > 1 && html`<div class="outline" role="group" aria-label="Conversations">
      ${ordered.slice(0, 60).map((each) => html`<button type="button" key=${each.id} aria-pressed=${view.conversation === each.id} class="outline-row"
          title=${oneLine(each.last?.text)} style=${{ paddingLeft: `${8 + each.depth * 14}px` }}
          onClick=${() => { view.conversation = view.conversation === each.id ? null : each.id; if (view.conversation) select(view.run, each.last.id); else changed(); }}>
        <span class="cut grow">${each.depth ? "↳ " : ""}${nameOf(each)}${each.isLive ? " ●" : ""}</span><span class="dim">${plural(each.turns, "turn")} · ${count(each.tokens)} tokens</span></button>`)}
    </div>`}
    ${list.status === "failed" && html`<p class="bad pad">${plain(list.problem)} <button type="button" onClick=${() => loadTurns(list)}>Try again</button></p>`}
    ${items.length
      ? html`<${VirtualList} name="turn" label="Turns" items=${items} selected=${view.turn} rowHeight=${50} sticks=${view.follows} onWindow=${axisOf}
          row=${(item, axis) => html`<${TurnRow} item=${item} axis=${axis} depth=${byId.get(conversationOf(item))?.depth ?? 0} />`} onSelect=${(item) => select(view.run, item.id)} />`
      : html`<p class="dim pad">${list.status === "loading" ? "Loading …" : all.length ? "No turn matches the filter." : "No call yet."}</p>`}
  </section>`;
}

function RunHead({ row, list }) {
  const children = [...state.rows.values()].filter((each) => each.parent === row.run);
  const others = [...state.rows.values()].filter((each) => each.run !== row.run);
  const facts = [row.busy ? `${seconds(row.busy)} in calls` : "", row.waited >= 0.05 ? `${seconds(row.waited)} for decisions` : "", clock(row.opened_at) && `began ${clock(row.opened_at)}`,
    row.ended_at ? `ended ${clock(row.ended_at)}` : "", row.stopped ? `stopped: ${oneLine(row.stopped)}` : "", row.ended === "body" ? "" : oneLine(row.ended)].filter(Boolean);
  return html`<div class="run-head small">
    <div class="line"><strong class="cut">${titleOf(row)}</strong><${State} row=${row} /><span class="grow"></span>${idOf(row)}</div>
    <div class="line"><span>${tokens(row)}${row.cost != null ? ` · ${money(row.cost)}` : ""}</span></div>
    ${row.error && html`<p class="bad-text">${oneLine(row.error)}</p>`}
    ${!row.kept && html`<p class="dim">Only this row of an old rollout is kept.</p>`}
    <${Fold} name="run head" title="About this rollout">${() => html`
      <p>${facts.join(" · ")}</p>
      ${scoresOf(row) && html`<p>Scores: ${scoresOf(row)}</p>`}
      ${list.agents.map((agent) => html`<p class="code">${visible(agent.argv.join(" "))}${agent.cwd ? html` <span class="dim">in ${visible(agent.cwd)}</span>` : ""}</p>`)}
      ${Object.keys(row.metadata ?? {}).length > 0 && html`<${LongText} name="metadata" text=${JSON.stringify(row.metadata, null, 2)} lines=${10} />`}
      ${state.rows.has(row.parent) && html`<p><button type="button" onClick=${() => select(row.parent)}>Parent rollout</button></p>`}
      ${children.slice(0, 50).map((each) => html`<p key=${each.run}><button type="button" onClick=${() => select(each.run)}>Child rollout ${titleOf(each)}</button></p>`)}
      ${others.length > 0 && html`<p><label>Compare with <select value="" onChange=${(event) => { view.other = event.target.value; view.panel = "compare"; writeAddress(); changed(); }}>
        <option value="">choose a rollout</option>${others.slice(0, 500).map((each) => html`<option value=${each.run}>${[titleOf(each), oneLine(each.model), plain(each.file), each.title === each.rollout ? "" : plain(each.rollout)].filter(Boolean).join(" · ")}</option>`)}</select></label></p>`}
      ${source instanceof Embedded || !row.kept ? null : html`<p><button type="button" onClick=${() => exportRun(row)}>Save as one HTML file</button></p>`}
    `}<//>
  </div>`;
}

/** Save a run as one HTML file, which loads nothing and sends nothing. */
async function exportRun({ run, rollout }) {
  toast("The file is being made …");
  try {
    const url = URL.createObjectURL(await source.file(run));
    const place = document.createElement("div");
    render(h("a", { href: url, download: `${rollout.replace(/[^\w.-]/g, "_")}.html` }), place);
    place.firstChild.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    toast(plain(error.message), true);
  }
}

// One turn

function Detail() {
  const item = view.run && view.turn != null ? itemsOf(view.run).find((each) => each.id === view.turn) : null;
  const place = useRef();
  useEffect(() => void (place.current && !view.found && (place.current.scrollTop = 0)), [view.run, view.turn]);
  const back = html`<button type="button" class="back" aria-label="Back to the turns" onClick=${() => select(view.run)}>‹</button>`;
  if (!item) {
    const isLost = view.turn != null && turnsOf(view.run).status === "loaded";
    return html`<section class="detail empty" aria-label="Turn" tabindex="0">${back}<p class="dim pad">${isLost ? "This turn is not here: its call ended without a turn, or the link is of another run." : view.run ? "No turn is chosen." : ""}</p></section>`;
  }
  return html`<section class="detail" aria-label="Turn" tabindex="0" ref=${place}>${item.isService ? html`<div class="detail-head line">${back}<h2>${plain(item.kind)} ${visible(item.name)}</h2></div><${ServiceDetail} call=${item} />` : html`<${TurnDetail} key=${item.id} item=${item} back=${back} />`}</section>`;
}

function ServiceDetail({ call }) {
  return html`<div class="pad"><p>A call to a service of the program: ${plain(call.outcome)} after ${seconds(call.duration)}.${call.turns != null ? ` It came after ${plural(call.turns, "turn")}.` : ""}</p>
    ${call.error && html`<p class="bad">${visible(call.error.type)}: ${visible(call.error.message)}</p>`}
    ${["arguments", "result"].map((name) => call[name] != null && html`<h4>${name}</h4><${LongText} name=${`${call.id} ${name}`} text=${JSON.stringify(call[name], null, 2)} lines=${40} />`)}</div>`;
}

/** Return the leading numbers of messages with instructions, of those that are loaded. */
function systemOf(run, ranges) {
  const numbers = numbersAt(ranges, 0, 4);
  const messages = messagesOf(run, numbers);
  const end = messages.findIndex((message) => message && message.role !== "system" && message.role !== "developer");
  return numbers.slice(0, end < 0 ? messages.filter(Boolean).length : end);
}

const VERBS = { approve: "approved", modify: "approved with other arguments", reject: "rejected", answer: "answered instead", terminate: "ended the run" };

function TurnDetail({ item, back }) {
  const { run } = item;
  const list = turnsOf(run);
  const total = lengthOf(item.messages);
  const base = view.base != null ? list.list().find((turn) => turn.number === view.base) : list.byId.get(item.continues);
  const isRewritten = base && (view.base != null || item.relation?.kind !== "continues") && !item.isLive;
  const system = systemOf(run, item.messages);
  const oldSystem = base ? systemOf(run, base.messages) : [];
  const numbers = numbersAt(item.messages, 0, Infinity);
  let begin = Math.max(item.shared, system.length); // the place of the first new message: an equal one may come before
  let fresh = numbers.slice(begin);
  let earlier = numbers.slice(system.length, begin);
  let goneNumbers = [];
  if (isRewritten) {
    const rest = new Map(); // how often each message of the other turn is left
    const old = numbersAt(base.messages, oldSystem.length, Infinity);
    if (base.answer != null) old.push(base.answer);
    for (const number of old) rest.set(number, (rest.get(number) ?? 0) + 1);
    [fresh, earlier] = [[], []];
    for (let at = system.length; at < total; at++) {
      const number = numbers[at];
      if (!rest.get(number) && !fresh.length) begin = at;
      (rest.get(number) ? earlier : fresh).push(number);
      if (rest.get(number)) rest.set(number, rest.get(number) - 1);
    }
    goneNumbers = old.filter((number, i) => rest.get(number) && (i < old.length - 1 || base.answer == null));
  }
  const context = fresh.length ? numbers.slice(0, begin).slice(-1) : [];
  const { mark, found } = view;
  const isEarlier = found != null && earlier.includes(found);
  const changedSystem = base && (isRewritten || item.system_changed == null ? !sameNumbers(oldSystem, system) : item.system_changed);
  const changedTools = base && base.tools !== item.tools;
  const begun = list.list().filter((turn) => turn.relation?.kind === "sub_agent" && turn.relation.turn === item.id);
  return html`
    <${TurnHead} item=${item} back=${back} />
    <div class="detail-body">
    ${item.error && html`<p class="bad">${visible(item.error.type)}${item.error.status ? ` (status ${item.error.status})` : ""}: ${visible(item.error.message)}</p>`}
    ${(item.decisions ?? []).map((each) => html`<div class="decision"><strong>${visible(each.tool)}</strong>: ${VERBS[each.kind] ?? plain(each.kind)} by ${visible(each.by || "the program")} after ${seconds(each.seconds)}${each.reason ? html`: ${visible(each.reason)}` : ""}${each.arguments != null ? html`<${LongText} name=${`decided ${item.id} ${each.call}`} lines=${6} text=${each.arguments} />` : ""}</div>`)}
    <h3>${item.isLive ? "The answer, as it is written" : "The answer"}</h3>
    ${item.isLive
      ? html`<article class="message assistant live"><header>model</header>${item.parts.length ? html`<${LiveParts} parts=${item.parts} />` : html`<p class="dim">${asksFor(item) ? "The model has proposed a tool call:" : `Waits for the first token, ${seconds(Math.max(0, now() - item.at))} …`}</p>`}</article>`
      : html`<${Answer} item=${item} list=${list} mark=${mark} found=${found} />`}
    ${[...state.waiting.values()].filter((each) => each.call === item.id && each.run === run).map((each) => html`<${Asked} key=${each.id} question=${each} isFound=${found === each.id} />`)}
    ${begun.map((turn) => html`<p key=${turn.id}><button type="button" onClick=${() => { view.conversation = conversationOf(turn); select(run, turn.id); }}>Sub-agent: ${nameOf(turn.conversation)}</button> <span class="dim">began here</span></p>`)}
    <h3>${base ? `New since turn ${base.number}` : "The request"} <span class="dim">${plural(fresh.length, "message")}</span>
      ${list.list().length > 1 && html`<label class="base">compared with turn <input type="number" min="0" value=${base?.number ?? ""} onChange=${(event) => { view.base = event.target.value === "" ? null : Number(event.target.value); changed(); }} /></label>`}</h3>
    ${view.base != null && !base && html`<p class="bad">There is no turn ${view.base}.</p>`}
    ${goneNumbers.length > 0 && html`<${Fold} name="gone" initial=${true} title=${`Removed or rewritten: ${plural(goneNumbers.length, "message")}`} badge=${html`<span class="badge bad-badge">REMOVED</span>`}>
      ${() => html`<${Messages} run=${run} numbers=${goneNumbers} tone="gone" />`}<//>`}
    ${fresh.length ? html`<${Messages} run=${run} numbers=${fresh} context=${context} mark=${mark} found=${fresh.includes(found) ? found : null} />` : html`<p class="dim">nothing new</p>`}
    <${Fold} name="system" title="System prompt" badge=${changedSystem ? html`<span class="badge">CHANGED</span>` : base ? html`<span class="dim">unchanged</span>` : null}>
      ${() => html`${changedSystem && base && html`<${SystemDiff} run=${run} before=${oldSystem} after=${system} />`}
        ${system.length ? html`<${Messages} run=${run} numbers=${system} mark=${mark} />` : html`<p class="dim">none</p>`}`}<//>
    ${item.tools != null && html`<${Fold} name="tools" title="Tools" badge=${changedTools ? html`<span class="badge">CHANGED</span>` : base ? html`<span class="dim">unchanged</span>` : null}>
      ${() => html`<${Tools} run=${run} number=${item.tools} before=${changedTools ? base?.tools : null} />`}<//>`}
    ${earlier.length > 0 && html`<${Fold} key=${isEarlier} name=${isEarlier ? `found ${item.id}` : "earlier"} initial=${isEarlier} title=${`Earlier messages: ${earlier.length} of ${total}`}>
      ${() => html`<${Messages} run=${run} numbers=${earlier} mark=${mark} found=${isEarlier ? found : null} />`}<//>`}
    <${More} item=${item} />
    </div>`;
}

/** A tool call that waits for a decision, in the turn that proposed it: the agent does not have it yet. */
function Asked({ question, isFound }) {
  const place = useRef();
  useEffect(() => void (isFound && place.current.scrollIntoView({ block: "start" })), [isFound]);
  return html`<div ref=${place} class=${`call asked ${isFound ? "found" : ""}`}><div class="call-head"><span class="badge">waits for a decision, ${seconds(Math.max(0, now() - question.at))}</span> <strong>${visible(question.tool, "", HIDDEN_OR_LONG)}</strong></div>
    <${Arguments} name=${`asked ${question.id}`} text=${question.arguments} isWaiting /></div>`;
}

const sameNumbers = (a, b) => a.length === b.length && a.every((number, i) => number === b[i]);

function TurnHead({ item, back }) {
  const busy = item.duration - item.waited;
  const asked = asksFor(item);
  const facts = [item.isLive ? `in flight for ${seconds(Math.max(0, now() - item.at))}` : `${item.outcome} after ${seconds(busy)}`, asked && `waits ${seconds(Math.max(0, now() - asked.at))} for a decision`, item.waited >= 0.05 && `waited ${seconds(item.waited)} for a decision`, item.first != null && `first token ${seconds(item.first)}`,
    item.usage?.output_tokens && item.first != null && !item.drafts && busy - item.first > 0.05 && `${(item.usage.output_tokens / (busy - item.first)).toFixed(0)} tokens/s`,
    item.stop && `stop: ${oneLine(item.stop)}`, item.attempt > 1 && `attempt ${item.attempt}`, clock(item.at)].filter(Boolean);
  const copyLink = () => copy(`${location.href.split("#")[0]}#${new URLSearchParams({ run: item.run, turn: item.id })}`, "The link");
  return html`<div class="detail-head">
    <div class="line wrap">${back}<h2>${item.isLive ? "Call in flight" : `Turn ${item.number}`}</h2>
      ${item.conversation && html`<span class="tag">${nameOf(item.conversation)}</span>`}${SHORT[item.relation?.kind] && html`<span class="tag">${SHORT[item.relation.kind]}</span>`}
      <span class="grow cut">${oneLine(item.model)} <span class="dim">${oneLine(item.dialect)}</span></span>
      <button type="button" onClick=${copyLink}>Copy link</button>
      ${!(source instanceof Embedded) && html`<button type="button" onClick=${() => copyCurl(item)}>Copy as curl</button>`}</div>
    <div class="line wrap small dim"><span>${facts.join(" · ")}</span><span>${tokens(item.usage)}</span>${item.cost != null && html`<span>${money(item.cost)}</span>`}</div>
  </div>`;
}

function Answer({ item, list, mark, found }) {
  if (item.answer == null) return html`<p class="dim">${item.outcome === "answered" ? "an answer without content" : "no answer"}</p>`;
  const next = list.list().find((turn) => turn.continues === item.id) ?? [...state.calls.values()].find((call) => call.continues === item.id && call.run === item.run);
  const all = next ? numbersAt(next.messages, 0, Infinity) : [];
  const at = all.lastIndexOf(item.answer) + 1 || next?.shared;
  const after = all.slice(at, at + 30);
  const numbers = [item.answer, ...after];
  const [block] = pairUp(numbers, messagesOf(item.run, numbers));
  if (block.missing) return html`<p class="dim">loading …</p>`;
  if (block.problem) return html`<p class="bad">${plain(block.problem)}</p>`;
  return html`<${Message} role=${block.role} parts=${block.parts} answered=${Boolean(next)} name=${`${item.run} ${item.answer}`} mark=${mark} isFound=${found === item.answer} />`;
}

function SystemDiff({ run, before, after }) {
  const [old, mine] = [messagesOf(run, before), messagesOf(run, after)];
  if ([...old, ...mine].some((message) => !message)) return html`<p class="dim">loading …</p>`;
  return html`<${Diff} before=${old.map(wholeText).join("\n\n")} after=${mine.map(wholeText).join("\n\n")} />`;
}

const toolText = (tool) => `${tool.description ?? ""}\n${JSON.stringify(tool.parameters ?? {}, null, 2)}`;

function Tools({ run, number, before }) {
  const load = (n) => answerTo(`tools ${run} ${n}`, () => source.tools(run, n));
  const { value, problem } = load(number);
  const old = before != null ? load(before).value : null;
  if (problem) return html`<p class="bad">${plain(problem)}</p>`;
  if (!value || (before != null && !old)) return html`<p class="dim">loading …</p>`;
  const known = new Map((old ?? []).map((tool) => [tool.name, tool]));
  const names = new Set(value.map((tool) => tool.name));
  return html`${(old ?? []).filter((tool) => !names.has(tool.name)).map((tool) => html`<p key=${`old ${tool.name}`} class="removed">− ${visible(tool.name)}</p>`)}
    ${value.map((tool, i) => {
      const was = known.get(tool.name);
      const sign = !old ? "" : !was ? "added" : toolText(was) !== toolText(tool) ? "edited" : "";
      return html`<${Fold} key=${i} name=${`tool ${tool.name}`} title=${plain(tool.name || tool.kind)} badge=${sign && html`<span class="badge">${sign.toUpperCase()}</span>`}>
        ${() => sign === "edited" ? html`<${Diff} before=${toolText(was)} after=${toolText(tool)} />` : html`<${LongText} name=${`tool text ${tool.name}`} text=${toolText(tool)} lines=${40} />`}<//>`;
    })}`;
}

/** Settings, drafts, notes and the raw turn, loaded when they are unfolded. */
function More({ item }) {
  const load = (kind) => answerTo(`${kind} ${item.run} ${item.id} ${Boolean(item.isLive)}`, () => source[kind](item.run, item.id));
  const json = (name, value) => html`<${LongText} name=${`${name} ${item.id}`} text=${typeof value === "string" ? value : JSON.stringify(value, null, 2)} lines=${60} />`;
  const loaded = (kind, draw) => () => {
    const { value, problem } = load(kind);
    return problem ? html`<p class="bad">${plain(problem)}</p>` : value ? draw(value) : html`<p class="dim">loading …</p>`;
  };
  return html`
    <${Fold} name="settings" title="Settings, drafts and notes">${loaded("detail", (value) => html`
      ${json("settings", value.request)}
      ${(value.drafts ?? []).map((draft, i) => html`<h4>Draft ${i + 1}: ${visible(draft.why)}${draft.counted ? "" : " (not counted)"}</h4>${json(`draft ${i}`, draft)}`)}
      ${Object.keys(value.notes ?? {}).length > 0 && html`<h4>Notes</h4>${json("notes", value.notes)}`}`)}<//>
    <${Fold} name="raw" title="Raw">${loaded("raw", (value) => html`
      ${value.wire
        ? html`<h4>Request</h4>${json("wire head", { method: value.wire.method, url: value.wire.url, headers: value.wire.headers })}${json("wire body", pretty(value.wire.body))}
          <h4>Response, status ${value.wire.status}</h4>${json("wire answer head", value.wire.answer_headers)}${json("wire answer", pretty(value.wire.answer))}`
        : html`<p class="dim">The HTTP traffic is not kept (see “Copy as curl” for the request in its dialect).</p>`}
      <h4>Turn</h4>${json("raw turn", value.turn)}`)}<//>`;
}

function pretty(text) {
  const value = text.length < 2e6 ? parsed(text) : undefined;
  return value === undefined ? text : JSON.stringify(value, null, 2);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} was copied.`);
  } catch {
    toast(`${what} was not copied: the browser does not allow it here.`, true);
  }
}

async function copyCurl(item) {
  try {
    const { curl } = await source.raw(item.run, item.id);
    if (!curl) return toast("This request cannot be written in its dialect.", true);
    await copy(curlOf(curl, location.origin), "The curl command, with $KEY for the key,");
  } catch (error) {
    toast(plain(error.message), true);
  }
}

// Decisions

const mine = new Set(); // questions that this page decides
const SETTLED = 600; // milliseconds that a question must be in view before a key or a click decides about it

class Waiting extends Component {
  constructor() {
    super();
    this.state = { mode: null, problem: "", text: "" };
    current = this;
    document.addEventListener("scroll", () => this.base && this.look(), true); // of the page, the call or the text to edit
  }
  render() {
    const all = [...state.waiting.values()].sort((a, b) => b.here - a.here || a.at - b.at);
    if (!all.length) return (this.shown = null);
    let at = all.findIndex((each) => each.id === view.question);
    if (at < 0) at = 0;
    const question = all[at];
    if (this.shown !== question.id) {
      this.shown = question.id;
      this.settle();
      Object.assign(this.state, { mode: null, problem: "", text: "", sending: false });
      Object.assign(this, { read: {}, below: 0, before: null });
      view.question = question.id;
    }
    this.question = question;
    const row = state.rows.get(question.run);
    const go = (step) => ((view.question = all[(at + step + all.length) % all.length].id), changed());
    const { mode, problem, text, sending } = this.state;
    const can = question.here && state.canDecide;
    const isOff = sending || !this.isSettled();
    const isUnread = this.isUnread();
    const more = can && isUnread && this.below > 0 && html`<button type="button" onClick=${this.readOn}>Read on ↓</button>
      <span class="small" role="status">${plural(Math.ceil(this.below / 20), "line")} below: approve when you have seen the end</span>`;
    const name = html`<span class="grow"></span><label class="small">Your name <input class="name" value=${localStorage.getItem(BY) ?? ""} onInput=${(event) => localStorage.setItem(BY, event.target.value)} /></label>`;
    const area = { modify: "Arguments", reject: "Reason", answer: "Result for the agent", terminate: "Reason" }[mode];
    return html`<section class="waiting" aria-label="Waiting for a decision">
      <div class="line wrap"><h2><span aria-hidden="true">◆</span> ${visible(question.tool, "", HIDDEN_OR_LONG)} waits for a decision</h2>
        <span class="grow dim cut">${seconds(Math.max(0, now() - question.at))} · ${row && titleOf(row)}</span>
        <button type="button" onClick=${() => select(question.run, question.call, { panel: null, found: question.id })}>Show the call</button>
        ${all.length > 1 && html`<span><button type="button" aria-label="Previous question" onClick=${() => go(-1)}>‹</button> ${at + 1} of ${all.length} <button type="button" aria-label="Next question" onClick=${() => go(1)}>›</button></span>`}</div>
      <div key=${`body ${question.id}`} class="waiting-body" tabindex="0" role="group" aria-label="Arguments">
        ${mode === "modify" && parsed(question.arguments) !== undefined ? null : html`<${Arguments} key=${question.id} name=${`question ${question.id}`} text=${question.arguments} isAsked />
        <${Fold} name="exact arguments" title="The exact text">${() => html`<${LongText} name="exact" text=${question.arguments} isAsked />`}<//>`}
        ${mode === "modify" && question.arguments.includes(MARK) && html`<p class="bad">These arguments are redacted: ${MARK} stands where the agent gets a key. To leave the key as it is, go back and approve.</p>`}
        ${mode && html`<label class="area">${area}<textarea key=${`${question.id} ${mode}`} rows=${mode === "modify" ? 8 : 2} value=${text}
          onInput=${(event) => ((this.state.text = event.target.value), this.look())} onKeyDown=${this.onKey}></textarea></label>`}
        ${problem && html`<p class="bad" role="alert">${plain(problem)}</p>`}</div>
      ${!can
        ? html`<p class="dim">${state.canDecide ? "This page cannot decide: another policy does, such as the terminal." : "Recorded runs take no decisions."}</p>`
        : mode
          ? html`<div class="line wrap" key=${`${question.id} ${mode}`}><button type="button" class="primary" disabled=${isOff || (mode === "modify" && isUnread)} onClick=${(event) => this.send(event)}>${{ modify: "Approve with these arguments", reject: "Reject", answer: "Answer instead", terminate: "End the run" }[mode]}</button>
              <button type="button" onClick=${() => this.setState({ mode: null, problem: "" })}>Back</button><span class="dim small">Ctrl+Enter sends</span>${more}${name}</div>`
          : html`<div class="line wrap" key=${question.id}><button type="button" class="primary" disabled=${isOff || isUnread} onClick=${(event) => this.decide("approve", event)}>Approve <kbd>a</kbd></button>
              <button type="button" disabled=${isOff} onClick=${() => this.open("reject")}>Reject … <kbd>r</kbd></button><button type="button" disabled=${isOff} onClick=${() => this.open("modify")}>Edit arguments … <kbd>e</kbd></button>
              <button type="button" disabled=${isOff} onClick=${() => this.open("answer")}>Answer instead … <kbd>i</kbd></button><button type="button" disabled=${isOff} onClick=${() => this.open("terminate")}>End the run …</button>${more}${name}</div>`}
    </section>`;
  }
  componentDidUpdate(_, before) {
    if (this.state.mode && this.state.mode !== before.mode) {
      const area = this.base.querySelector("textarea");
      area.setSelectionRange(0, 0); // the focus would scroll to its end
      area.focus();
    }
    if (before.mode && !this.state.mode) this.box().scrollTop = this.top; // the focus of a form has scrolled it
    this.look();
  }
  box = () => this.base.querySelector(this.state.mode === "modify" ? "textarea" : ".waiting-body");
  /** Return the text that an approval would send: as it came, or as it is edited; undefined in another form. */
  text = () => ({ null: this.question.arguments, modify: this.state.text })[this.state.mode];
  /** Return whether the end of this text was not in view yet. Who has read a text to edit may change it. */
  isUnread = () => this.text() !== undefined && ![this.text(), this.before].includes(this.read[this.state.mode]);
  /** See how much of the text is below what is in view. It can be approved once its end was in view. */
  look = () => {
    if (!this.shown || !this.isUnread()) return;
    const { top, bottom } = this.box().getBoundingClientRect();
    const end = top + this.box().scrollHeight - this.box().scrollTop;
    const before = this.below;
    this.below = Math.max(0, Math.round(end - Math.min(bottom, toasts.length ? document.querySelector(".toasts").getBoundingClientRect().top : innerHeight)));
    if (this.below < 20 && end > 0) return (this.read[this.state.mode] = this.text()), changed(); // end < 0: above what is in view
    if (this.below !== before) changed();
  };
  readOn = () => (this.box().scrollIntoView({ block: "start" }), this.box().scrollBy(0, Math.max(20, this.box().clientHeight - 40)), this.look());
  onKey = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.send(event);
    if (event.key === "Escape") this.setState({ mode: null, problem: "" });
  };
  open(mode) {
    const text = this.question.arguments;
    const value = parsed(text, true);
    const shown = value !== undefined ? JSON.stringify(value, null, 2) : text;
    this.before = parsed(text) === undefined ? text : escaped(shown);
    this.top = this.box().scrollTop;
    this.setState({ mode, problem: "", text: mode === "modify" ? this.before : "" });
  }
  send(event) {
    const { mode, text } = this.state;
    if (mode === "answer" && !text.trim()) return this.setState({ problem: "Write the result that the agent gets." });
    this.decide(mode, event, mode === "modify" ? { arguments: text === this.before ? this.question.arguments : text } : { reason: text });
  }
  /** Start the time in which nothing is decided: the question has just come, or someone still acts on the one before. */
  settle() {
    this.since = performance.now();
    setTimeout(changed, SETTLED + 20);
  }
  isSettled = () => performance.now() - this.since >= SETTLED;
  /** Return whether an event is meant for this question: not the second click of two, nor a key held down. */
  isMeant(event) {
    if (event.repeat || event.detail > 1) return false;
    if (this.isSettled()) return true;
    this.settle();
    toast("This question has just come: look at it, then try again.");
    return false;
  }
  press(mode, event) {
    if (!this.question || !this.shown || !this.question.here || this.state.mode || !state.canDecide) return;
    if (mode === "approve") this.decide(mode, event);
    else if (this.isMeant(event)) this.open(mode);
  }
  async decide(kind, event, more = {}) {
    if (!this.isMeant(event)) return;
    if (["approve", "modify"].includes(kind) && this.isUnread()) return this.box().focus(), toast("Read to the end of the call first: it goes on below (Space, Page Down).");
    const { id, tool } = this.question;
    if (this.state.sending) return;
    this.setState({ sending: true, problem: "" });
    mine.add(id);
    try {
      await source.decide({ id, kind, by: localStorage.getItem(BY) || undefined, ...more });
      state.waiting.delete(id);
      toast(`${plain(tool)}: ${VERBS[kind]}`);
    } catch (error) {
      mine.delete(id);
      const { decision } = error;
      if (error.status === 409) {
        state.waiting.delete(id);
        toast(decision ? `${plain(tool)} was decided before: ${VERBS[decision.kind] ?? plain(decision.kind)} by ${plain(decision.by)}` : plain(error.message), true);
      } else if (this.shown === id) this.setState({ problem: error.message });
    }
    this.setState({ sending: false });
    changed();
  }
}
let current = null;

// Search and comparison

function openSearch(query, everywhere = view.everywhere) {
  Object.assign(view, { query, everywhere, panel: query ? "search" : null });
  writeAddress();
  changed();
}

function Search() {
  const run = view.everywhere ? null : view.run;
  const name = `search ${run} ${view.query}`;
  const { value, problem } = answerTo(name, () => source.search(view.query, run));
  const close = () => ((view.panel = null), writeAddress(), changed());
  const again = () => (answers.delete(name), changed());
  return html`<section class="detail" aria-label="Search results"><div class="detail-head line wrap"><h2>Search: ${visible(view.query)}</h2>
      <label class="small"><input type="checkbox" checked=${view.everywhere} onChange=${(event) => openSearch(view.query, event.target.checked)} /> in all rollouts</label>
      <span class="grow dim">${value ? plural(value.hits.length, "message") + (value.more ? ", and more" : "") : ""}</span>${state.live && html`<button type="button" onClick=${again}>Search again</button>`}<button type="button" onClick=${close}>Close</button></div>
    ${problem ? html`<p class="bad pad">${plain(problem)}</p>` : !value ? html`<p class="dim pad">Searching …</p>` : !value.hits.length ? html`<p class="dim pad">Nothing was found in messages and answers.</p>` : null}
    <div class="hits">${value?.hits.map((hit) => html`<button type="button" class="hit" key=${`${hit.run} ${hit.message}`}
        onClick=${() => select(hit.run, hit.call, { panel: null, found: hit.message, mark: view.query.toLowerCase() })}>
      <span class="dim small">${state.rows.has(hit.run) && titleOf(state.rows.get(hit.run))} · ${ROLES[hit.role] ?? plain(hit.role)}</span>
      <span>${visible(hit.excerpt.slice(0, hit.start))}<mark>${visible(hit.excerpt.slice(hit.start, hit.end))}</mark>${visible(hit.excerpt.slice(hit.end))}</span></button>`)}</div></section>`;
}

const PAIRS = { same: "=", changed: "≠", only_a: "−", only_b: "+" };

function Compare() {
  const close = () => ((view.panel = view.other = null), writeAddress(), changed());
  const [a, b] = [view.run, view.other];
  const rows = [a, b].map((run) => state.rows.get(run));
  const size = rows.map((row) => row?.turns).join(" ");
  const { value, problem } = answerTo(`compare ${a} ${b} ${size}`, () => source.compare(a, b));
  const answer = (run, id) => turnsOf(run).byId.get(id)?.answer;
  const differing = (value?.pairs ?? []).filter((pair) => pair.kind !== "same").slice(0, MOST_AT_ONCE);
  const calls = new Map(); // of turns that differ: the calls with their arguments
  for (const [run, side] of [[a, "a"], [b, "b"]]) {
    const ids = differing.map((pair) => pair[side]).filter((id) => id && answer(run, id) != null);
    messagesOf(run, ids.map((id) => answer(run, id))).forEach((message, i) => {
      calls.set(`${run} ${ids[i]}`, message?.content.filter((part) => part.part === "ToolCall").map((part) => oneLine((part.arguments ?? "").slice(0, 300))));
    });
  }
  const cell = (run, id) => {
    const turn = id && turnsOf(run).byId.get(id);
    return html`<td>${id && html`<button type="button" class="hit" onClick=${() => select(run, id, { panel: null })}>${turn ? html`<span class="dim">${turn.number}</span> ${oneLine(turn.text || turn.error?.message || (turn.calls.length ? "" : turn.outcome))} ${turn.calls.map((name, i) => html`<span class="tool">${oneLine(name)}</span> ${calls.get(`${run} ${id}`)?.[i]} `)}` : "…"}</button>`}</td>`;
  };
  const totals = (row) => row && html`${titleOf(row)} ${idOf(row)} <${State} row=${row} /><br /><span class="dim small">${plural(row.turns, "turn")} · ${[tokens(row), money(row.cost), scoresOf(row)].filter(Boolean).join(" · ")}</span>`;
  return html`<section class="detail" aria-label="Comparison" tabindex="0"><div class="detail-head line"><h2 class="grow">Two runs side by side</h2><button type="button" onClick=${close}>Close</button></div>
    ${problem ? html`<p class="bad pad">${plain(problem)}</p>` : !value ? html`<p class="dim pad">loading …</p>`
      : html`<table class="compare"><thead><tr><th scope="col">${totals(rows[0])}</th><th scope="col"><span class="hidden">alike</span></th><th scope="col">${totals(rows[1])}</th></tr></thead>
        <tbody>${value.pairs.slice(0, 2000).map((pair) => html`<tr class=${pair.kind in PAIRS ? pair.kind : ""}>${cell(a, pair.a)}<td title=${plain(pair.kind)}>${PAIRS[pair.kind] ?? "?"}</td>${cell(b, pair.b)}</tr>`)}</tbody></table>`}</section>`;
}

// Around the panels

const STATUS = { live: "live", lost: "no connection, tries again …", ended: "the endpoint has ended", recorded: "recorded", connecting: "connecting …" };

function Header() {
  const submit = (event) => (event.preventDefault(), openSearch(new FormData(event.target).get("q").trim()));
  const rows = [...state.rows.values()];
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
  const about = rows.some((row) => row.estimated) ? "~" : "";
  const costs = rows.some((row) => row.cost != null);
  return html`<header class="top"><h1>triocept</h1><span class=${`status ${state.status}`} role="status">${STATUS[state.status] ?? ""}</span>
    <span class="grow cut dim">${plain(state.title)}</span>
    <span class="dim totals">${state.calls.size ? `${state.calls.size} in flight · ` : ""}${plural(sum("turns"), "turn")} · ${about}${count(sum("input_tokens"))} in · ${about}${count(sum("output_tokens"))} out${costs ? ` · ${money(sum("cost"))}` : ""}</span>
    <form role="search" onSubmit=${submit}><input id="search" name="q" type="search" placeholder="search in messages  /" aria-label="Search in messages" defaultValue=${view.query} /></form>
    <button type="button" aria-label="Help" title="Keys (?)" onClick=${() => ((view.help = true), changed())}>?</button></header>`;
}

function Notes() {
  const [isClosed, close] = useState(false);
  if (isClosed || !state.notes.length) return null;
  return html`<section class="notes" aria-label="Problems of the files">${state.notes.slice(0, 20).map((note) => html`<p>${visible(note)}</p>`)}
    ${state.notes.length > 20 && html`<p>and ${state.notes.length - 20} more</p>`}<button type="button" onClick=${() => close(true)}>Close</button></section>`;
}

function AskKey() {
  const submit = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("key").trim();
    connect(text.includes("#") ? new URLSearchParams(text.split("#")[1]).get("key") ?? "" : text);
  };
  return html`<form class="start" onSubmit=${submit}><h1>triocept</h1><p>This page needs the key of the view. It is in the address that the endpoint printed (<code>view_url</code>, after <code>#key=</code>).</p>
    <label>Key, or the whole address <input name="key" type="password" autocomplete="off" autofocus required /></label> <button type="submit" class="primary">Open</button></form>`;
}

function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">${toasts.map((each) => html`<p key=${each.id} class=${each.isBad ? "bad" : ""}>${each.text}</p>`)}</div>`;
}

const KEYS = [["j  k", "next, previous turn"], ["J  K", "next, previous rollout"], ["l", "follow the newest call of the rollout"], ["Space", "read on in a long tool call"], ["a", "approve the tool call that waits"], ["r", "reject it, with a reason"],
  ["e", "edit its arguments"], ["i", "answer instead"], ["[  ]", "previous, next tool call that waits"], ["/", "search in messages"], ["Esc", "close"], ["?", "this help"]];

function Help() {
  const close = () => ((view.help = false), changed());
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} aria-label="Keys" onClose=${close}><h2>Keys</h2><dl class="keys">${KEYS.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <p class="dim">Invisible and control characters are shown as ⟨202e⟩. “~” marks an estimate. In a bar of time, the light part is the wait for the first token, and the striped part is the time for decisions.</p>
    <button type="button" onClick=${() => dialog.current.close()}>Close</button></dialog>`;
}

function move(items, id, step, choose) {
  const at = items.findIndex((item) => item.id === id);
  const next = items[at < 0 ? (step > 0 ? 0 : items.length - 1) : Math.max(0, Math.min(items.length - 1, at + step))];
  if (next) choose(next.id);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest?.("input, textarea, select, dialog")) {
    if (event.key === "Escape" && event.target.id === "search") event.target.blur();
    return;
  }
  if ([" ", "PageDown"].includes(event.key) && event.target === document.body && current?.shown && current.isUnread()) return event.preventDefault(), current.readOn();
  if (current?.shown && !current.isSettled()) current.settle(); // perhaps a reason for the question before is still being typed
  const actions = {
    j: () => view.run && move(itemsOf(view.run, true), view.turn, 1, (id) => select(view.run, id)),
    k: () => view.run && move(itemsOf(view.run, true), view.turn, -1, (id) => select(view.run, id)),
    J: () => move(runItems(), view.run, 1, (id) => select(id)),
    K: () => move(runItems(), view.run, -1, (id) => select(id)),
    l: () => view.run && select(view.run),
    a: () => current?.press("approve", event),
    r: () => current?.press("reject", event),
    e: () => current?.press("modify", event),
    i: () => current?.press("answer", event),
    "[": () => document.querySelector('[aria-label="Previous question"]')?.click(),
    "]": () => document.querySelector('[aria-label="Next question"]')?.click(),
    "/": () => document.getElementById("search")?.focus(),
    "?": () => ((view.help = true), changed()),
    Escape: () => {
      if (view.panel) (view.panel = view.other = null), writeAddress();
      else if (view.conversation) view.conversation = null;
      changed();
    },
  };
  if (!Object.hasOwn(actions, event.key)) return;
  event.preventDefault();
  actions[event.key]();
}
