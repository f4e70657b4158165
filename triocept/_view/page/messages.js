"use strict";
// Messages, tool calls with their results, and sections that fold.

// Fold state, by name. It stays when another turn is shown, and when the page is loaded again.
const FOLDS = "triocept-view-folds";
const MOST_FOLDS = 2000;
const folds = new Map(parsed(sessionStorage.getItem(FOLDS) ?? "") ?? []);

function useFold(name, initial = false) {
  const [, again] = useState(0);
  const isOpen = folds.get(name) ?? initial;
  const toggle = () => {
    folds.delete(name);
    folds.set(name, !isOpen);
    if (folds.size > MOST_FOLDS) folds.delete(folds.keys().next().value);
    sessionStorage.setItem(FOLDS, JSON.stringify([...folds]));
    again((n) => n + 1);
  };
  return [isOpen, toggle];
}

/** A section that folds. `children` is a function, called only if the section is open. */
function Fold({ name, title, badge, initial, children }) {
  const [isOpen, toggle] = useFold(name, initial);
  return html`<section class="fold">
    <h3>
      <button type="button" class="fold-button" aria-expanded=${isOpen} onClick=${toggle}>
        <span class="arrow" aria-hidden="true">${isOpen ? "▾" : "▸"}</span>${title}
      </button>
      ${badge}
    </h3>
    ${isOpen && html`<div class="fold-body">${children()}</div>`}
  </section>`;
}

const MOST_CHARACTERS = 20_000;

/** A text. With `lines`, a longer one shows its beginning, until it is unfolded. If `isAsked`, all of it is shown. If `isWaiting`, long runs of white space are counted first. */
function LongText({ name, text, lines, mark = "", isAsked, isWaiting }) {
  const [isOpen, toggle] = useFold(`text ${name}`);
  const [most, setMost] = useState(MOST_CHARACTERS);
  text = isWaiting ? plain(text, LONG) : String(text ?? "");
  let short = text;
  let more = 0;
  if (lines && !isAsked) {
    short = text.split("\n", lines).join("\n").slice(0, lines * 160);
    if (text.length - short.length < 80) short = text;
    more = text.length - short.length;
    if (mark && more && !short.toLowerCase().includes(mark)) more = 0;
  }
  const isCut = more > 0 && !isOpen;
  const shown = isCut ? short : isAsked ? text : text.slice(0, most);
  const nodes = useMemo(() => visible(shown, mark, isAsked ? HIDDEN_OR_LONG : HIDDEN), [shown, mark, isAsked]);
  return html`<pre class="text">${nodes}${shown.length < text.length ? "…" : ""}</pre>
    ${more > 0 && html`<button type="button" class="more" aria-expanded=${isOpen} onClick=${toggle}>
      ${isOpen ? "Show less" : `Show ${plural(more, "more character")}`}
    </button>`}
    ${!isCut && shown.length < text.length && html`<button type="button" class="more" onClick=${() => setMost(most * 10)}>
      Show more of ${count(text.length)} characters
    </button>`}`;
}

/** The arguments of a tool call: members of a JSON object one below the other, other texts as they are. */
function Arguments({ name, text, mark, isAsked, isWaiting }) {
  const [value, close] = useMemo(() => (text.length < 500_000 ? [parsed(text, true), parsed(text)] : []), [text]);
  if (value === undefined && close !== undefined)
    return html`<p class="bad">Read and written again, this text would change, because a name is there twice or a number is not kept: this is the exact text.</p>
      <${LongText} name=${name} text=${text} mark=${mark} isAsked=${isAsked} isWaiting=${isWaiting} />`;
  const members = value && typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : null;
  if (!members) return html`<${LongText} name=${name} text=${text} lines=${30} mark=${mark} isAsked=${isAsked} isWaiting=${isWaiting} />`;
  if (!members.length) return html`<p class="dim">no arguments</p>`;
  return html`<dl class="arguments">
    ${members.map(([key, each]) => html`<div>
      <dt>${visible(key.trim() === key && key ? key : JSON.stringify(key), mark, isAsked || isWaiting ? HIDDEN_OR_LONG : HIDDEN)}</dt>
      <dd><${LongText} name=${`${name} ${key}`} lines=${20} mark=${mark} isAsked=${isAsked} isWaiting=${isWaiting} text=${typeof each === "string" ? each : JSON.stringify(each, null, 2)} /></dd>
    </div>`)}
  </dl>`;
}

const IMAGES = /^image\/(png|jpeg|gif|webp)$/;

function Part({ part, name, result, answered, mark, lines }) {
  switch (part.part) {
    case "Text":
      return html`<${LongText} name=${name} text=${part.text} lines=${lines} mark=${mark} />`;
    case "Reasoning":
      return part.text
        ? html`<div class="reasoning"><span class="label">reasoning</span><${LongText} name=${name} text=${part.text} lines=${8} mark=${mark} /></div>`
        : html`<p class="dim">reasoning, not readable (encrypted or left out)</p>`;
    case "RefusalText":
      return html`<div class="bad"><span class="label">refusal</span><${LongText} name=${name} text=${part.text} mark=${mark} /></div>`;
    case "ToolCall":
      return html`<${Call} call=${part} name=${name} result=${result} answered=${answered} mark=${mark} />`;
    case "ToolResult":
      return html`<${Result} result=${part} name=${name} mark=${mark} />`;
    case "Media":
      return html`<figure class="media">
        ${part.data && IMAGES.test(part.media_type ?? "")
          ? html`<img alt=${plain(part.name || part.kind || "image")} src=${`data:${part.media_type};base64,${part.data}`} />`
          : null}
        <figcaption>${plain(part.kind ?? "media")} ${plain(part.name)} ${plain(part.media_type)} ${visible(part.url)}
          ${part.data ? ` ${count(Math.round(part.data.length * 0.75))} bytes` : ""}</figcaption>
      </figure>`;
    default:
      return html`<${Fold} name=${`opaque ${name}`} title=${`${plain(part.part)}: not read by triocept`}>
        ${() => html`<${LongText} name=${name} text=${JSON.stringify(part, null, 2)} />`}
      <//>`;
  }
}

/** A tool call and its result. */
function Call({ call, name, result, answered = true, mark }) {
  return html`<div class="call">
    <div class="call-head"><span class="label">call</span><strong>${visible(call.name || "(no name)", mark)}</strong></div>
    <${Arguments} name=${`${name} arguments`} text=${call.arguments ?? "{}"} mark=${mark} />
    ${result
      ? html`<${Result} result=${result} name=${`${name} result`} mark=${mark} />`
      : !answered && html`<p class="dim">no result yet</p>`}
  </div>`;
}

function Result({ result, name, mark }) {
  const content = result.content ?? [];
  return html`<div class=${result.is_error ? "result bad" : "result"}>
    <span class="label">${result.is_error ? "error result" : "result"}</span>${result.name ? html`<strong>${visible(result.name)}</strong>` : null}
    ${content.length === 0 && html`<p class="dim">empty</p>`}
    ${content.map((part, i) => html`<${Part} key=${i} part=${part} name=${`${name} ${i}`} lines=${12} mark=${mark} />`)}
  </div>`;
}

const ROLES = { assistant: "model", tool: "tool results", system: "system", developer: "developer", user: "user" };

/** A message without what is shown elsewhere. It is drawn again only if its content changes. */
class Message extends Component {
  shouldComponentUpdate(next) {
    const keys = Object.keys(next);
    return keys.some((key) => key !== "parts" && next[key] !== this.props[key]) ||
      next.parts.length !== this.props.parts.length ||
      next.parts.some((each, i) => each.part !== this.props.parts[i].part || each.result !== this.props.parts[i].result);
  }
  componentDidMount() {
    if (this.props.isFound) this.base.scrollIntoView({ block: "center" });
  }
  render({ role, who, name, parts, tone, answered, mark, isFound }) {
    return html`<article class=${`message ${role} ${tone ?? ""} ${isFound ? "found" : ""}`}>
      <header>${ROLES[role] ?? plain(role)}${who ? ` · ${plain(who)}` : ""}${tone === "gone" ? " · removed" : ""}</header>
      ${parts.length === 0 && html`<p class="dim">empty</p>`}
      ${parts.map(({ part, result, index }) => html`<${Part} key=${index} part=${part} result=${result} answered=${answered}
        name=${`${name} ${index}`} lines=${role === "assistant" ? 60 : 40} mark=${mark} />`)}
    </article>`;
  }
}

/** Return messages as blocks for readers: each tool call with its result, even if that came in a later message. */
function pairUp(numbers, messages) {
  const blocks = [];
  let open = []; // calls of the latest messages of the model, without a result
  messages.forEach((message, place) => {
    if (!message) return void blocks.push({ number: numbers[place], missing: true });
    if (message.problem) return void blocks.push({ number: numbers[place], problem: message.problem });
    const parts = (message.content ?? []).map((part, index) => ({ part, index, result: null }));
    if (message.role === "assistant") {
      if (blocks.at(-1)?.role !== "assistant") open = [];
      open.push(...parts.filter(({ part }) => part.part === "ToolCall"));
    }
    const rest = parts.filter((each) => {
      if (each.part.part !== "ToolResult") return true;
      const found = open.findIndex(({ part }) => part.id && part.id === each.part.id);
      if (found < 0 && open.some(({ part }) => part.id) && each.part.id) {
        const same = open.findIndex(({ result }) => !result);
        if (same < 0) return true;
        open[same].result = each.part;
        return false;
      }
      const call = found >= 0 ? open[found] : open.find(({ result }) => !result);
      if (!call || call.result) return true;
      call.result = each.part;
      return false;
    });
    if (rest.length || !parts.length)
      blocks.push({ number: numbers[place], place, role: message.role, who: message.name, parts: rest, answered: false });
  });
  blocks.forEach((block, i) => (block.answered = i < blocks.length - 1));
  return blocks;
}

const MOST_MESSAGES = 30;

/** Messages by number, newest last. `context` are numbers before them: the calls of which results are shown. */
function Messages({ run, numbers, context = [], tone, mark, found }) {
  const [most, setMost] = useState(MOST_MESSAGES);
  const from = Math.max(0, numbers.length - Math.max(most, found == null ? 0 : numbers.length - numbers.indexOf(found)));
  const shown = numbers.slice(from);
  const before = from > 0 ? numbers.slice(Math.max(0, from - 1), from) : context;
  const blocks = pairUp([...before, ...shown], messagesOf(run, [...before, ...shown]));
  return html`${from > 0 && html`<button type="button" class="more" onClick=${() => setMost(most + 100)}>
      Show ${Math.min(100, from)} earlier of ${plural(from, "message")}</button>`}
    ${blocks.map((block) => {
      const isContext = block.place < before.length;
      if (isContext && !block.parts?.some(({ result }) => result)) return null;
      if (block.missing) return html`<p class="dim" key=${block.number}>message ${block.number} is loading …</p>`;
      if (block.problem) return html`<p class="bad" key=${block.number}>message ${block.number}: ${plain(block.problem)}</p>`;
      const parts = isContext ? block.parts.filter(({ result }) => result) : block.parts;
      return html`<${Message} key=${`${block.number} ${block.place}`} role=${block.role} who=${block.who} parts=${parts} tone=${tone}
        answered=${block.answered} name=${`${run} ${block.number}`} mark=${mark} isFound=${found === block.number} />`;
    })}`;
}

const MOST_LIVE = 8000;

/** The parts of an answer in progress: the end of each, as it grows. */
function LiveParts({ parts }) {
  return parts.map((part) => {
    const end = part.text.slice(-MOST_LIVE);
    const before = part.skipped + part.text.length - end.length;
    return html`<div key=${part.part} class=${`live-part ${part.kind}`}>
      ${part.kind !== "text" && html`<span class="label">${part.kind === "tool_call" ? "call" : plain(part.kind)}</span>`}
      ${part.tool && html`<strong>${visible(part.tool)}</strong>`}
      ${before > 0 && html`<p class="dim">… ${count(before)} characters before</p>`}
      <pre class="text">${visible(end, "", HIDDEN_OR_LONG)}</pre>
    </div>`;
  });
}

/** The differences of two texts by line. */
function Diff({ before, after }) {
  const lines = shortDiff(before, after);
  return html`<pre class="diff">${lines.map(([sign, line]) =>
    sign === "…"
      ? html`<span class="dim">${`… ${plural(line, "equal line")}\n`}</span>`
      : html`<span class=${sign === "+" ? "added" : sign === "-" ? "removed" : ""}>${sign} ${visible(line)}${"\n"}</span>`)}</pre>`;
}
