"use strict";
// Text of agents and models: shown as it is, and never run. Figures and times for readers.

const { h, html, render, Component, useState, useEffect, useMemo, useRef, useErrorBoundary } = htmPreact;

// Characters that are invisible, look like a space, or change the order of others. Those that form an emoji stay.
const HIDDEN = new RegExp(
  "(?![ \\t\\n]|\\r\\n|(?<=\\p{Extended_Pictographic})\\ufe0f|(?<=[#*\\d])\\ufe0f\\u20e3" +
    "|(?<=\\p{Extended_Pictographic}[\\ufe0f\\u{1f3fb}-\\u{1f3ff}]?)\\u200d\\p{Extended_Pictographic})" +
    "[\\p{C}\\p{Z}\\p{Default_Ignorable_Code_Point}\\u2800\\ufffc\\u{1d159}]",
  "gu",
);
// And long runs of white space, behind which text is not seen: for what a person decides about.
const LONG = /(?<=\S)[ \t]{9,}|[ \t]{41,}|(?:[ \t]*\r?\n){9,}/gu;
const HIDDEN_OR_LONG = new RegExp(`${LONG.source}|${HIDDEN.source}`, "gu");
const BLANKS = { " ": "spaces", "\t": "tabs", "\n": "newlines" };
const nameOfHidden = (found) =>
  `⟨${found.length > 2 ? `${found.length} ${BLANKS[[...new Set(found)].join("")] ?? "blanks"}` : found.codePointAt(0).toString(16).padStart(4, "0")}⟩`;

/** Return a text for an attribute or one line: hidden characters as ⟨202e⟩. */
const plain = (text, hidden = HIDDEN) => String(text ?? "").replace(hidden, nameOfHidden);

/** Return a JSON text in which nothing is hidden: escapes in its strings, and no long runs of white space. */
function escaped(text) {
  const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|\s+/g, (each) =>
    each[0] !== '"'
      ? each.length > 40 || each.includes("\r") ? " " : each
      : each.replace(HIDDEN_OR_LONG, (found) => (found.length > 2 ? escape(" ") + found.slice(2) + escape(" ") : found.replace(/[^]/g, escape))));
}

/** Return a text as nodes, with what is `hidden` marked, and the places of `mark` (lower case) highlighted. */
function visible(text, mark = "", hidden = HIDDEN) {
  text = String(text ?? "");
  const nodes = [];
  let end = 0;
  const push = (piece) => {
    if (!mark && piece.length > 20_000) // browsers lay out one long text in quadratic time
      return void nodes.push(...piece.match(/[^]{1,1000}/gu).map((each) => html`<span>${each}</span>`));
    if (!mark || !piece) return void (piece && nodes.push(piece));
    const lower = piece.toLowerCase();
    let from = 0;
    for (let at = lower.indexOf(mark); at >= 0 && nodes.length < 5000; at = lower.indexOf(mark, from)) {
      nodes.push(piece.slice(from, at), html`<mark>${piece.slice(at, at + mark.length)}</mark>`);
      from = at + mark.length;
    }
    nodes.push(piece.slice(from));
  };
  for (const match of text.matchAll(hidden)) {
    if (nodes.length > 5000) break;
    push(text.slice(end, match.index));
    nodes.push(html`<span class="hidden-char" title="an invisible or control character">${nameOfHidden(match[0])}</span>`);
    end = match.index + match[0].length;
  }
  push(nodes.length > 5000 ? plain(text.slice(end), hidden) : text.slice(end));
  return nodes;
}

const oneLine = (text) => plain(String(text ?? "").replace(/\s+/g, " ").trim());

function count(number) {
  if (number == null) return "–";
  if (number < 10_000) return String(number);
  if (number < 1e6) return `${(number / 1e3).toFixed(number < 1e5 ? 1 : 0)}k`;
  return `${(number / 1e6).toFixed(1)}M`;
}

function seconds(value) {
  if (value == null) return "–";
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const money = (value) => (value == null ? "" : `$${value.toFixed(value < 0.1 ? 4 : 2)}`);
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const clock = (at) => (at ? new Date(at * 1000).toLocaleTimeString() : "");

/** Return token counts as one line: "1,200 in (800 cached) · 30 out". Estimates have "~". */
function tokens(usage) {
  if (!usage) return "";
  const about = usage.estimated ? "~" : "";
  const more = [];
  if (usage.cached_tokens) {
    const share = usage.input_tokens ? ` = ${Math.round((100 * usage.cached_tokens) / usage.input_tokens)} %` : "";
    more.push(`${count(usage.cached_tokens)} cached${share}`);
  }
  if (usage.cache_write_tokens) more.push(`${count(usage.cache_write_tokens)} written to the cache`);
  const thought = usage.reasoning_tokens ? ` (${count(usage.reasoning_tokens)} reasoning)` : "";
  const inner = more.length ? ` (${more.join(", ")})` : "";
  return `${about}${count(usage.input_tokens)} in${inner} · ${about}${count(usage.output_tokens)} out${thought}`;
}

/** Return the title of a run: its task, its own id or the first words of its prompt; else its agent and its number. */
const titleOf = (row) => oneLine(row.title) || `${oneLine(row.agent) || "rollout"} ${row.number}`;
/** Return the id of a run and the end of its file's path, as a small text beside the title. */
const idOf = (row) => html`<span class="id cut" title=${plain(`${row.file} ${row.rollout}`.trim())}>${plain([row.file?.split("/").slice(-2).join("/"), row.title === row.rollout ? "" : row.rollout].filter(Boolean).join(" · "))}</span>`;

const MARK = "[redacted]"; // what the server writes in place of a key

/** Return the value of a JSON text, or undefined. With `isExact`, also undefined if a name is there twice or a number is not kept. */
function parsed(text, isExact = false) {
  try {
    const value = JSON.parse(text);
    const tokens = () => text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|\s+/g, (each) => (each[0] === '"' ? JSON.stringify(JSON.parse(each)) : ""));
    return isExact && JSON.stringify(value) !== tokens() ? undefined : value;
  } catch {
    return undefined;
  }
}

const MOST_LINES = 1500;

/** Return the differences of two lists of lines, as [sign, line] with sign " ", "-" or "+". Bounded in time. */
function lineDiff(a, b) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const x = a.slice(start, a.length - end);
  const y = b.slice(start, b.length - end);
  const middle = [];
  if (x.length * y.length > MOST_LINES * MOST_LINES) {
    middle.push(...x.map((line) => ["-", line]), ...y.map((line) => ["+", line]));
  } else {
    const width = y.length + 1;
    const longest = new Uint16Array((x.length + 1) * width);
    for (let i = x.length - 1; i >= 0; i--)
      for (let j = y.length - 1; j >= 0; j--)
        longest[i * width + j] =
          x[i] === y[j]
            ? longest[(i + 1) * width + j + 1] + 1
            : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    let i = 0;
    let j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) middle.push([" ", x[i++], j++]);
      else if (j >= y.length || (i < x.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1]))
        middle.push(["-", x[i++]]);
      else middle.push(["+", y[j++]]);
    }
  }
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(a.slice(0, start)), ...middle, ...same(end ? a.slice(-end) : [])];
}

/** Return the differences of two texts with at most three equal lines around each; longer stretches become ["…", count]. */
function shortDiff(before, after) {
  const lines = lineDiff(before.split("\n"), after.split("\n"));
  const near = new Uint8Array(lines.length);
  lines.forEach(([sign], i) => {
    if (sign !== " ") for (let k = Math.max(0, i - 3); k <= Math.min(lines.length - 1, i + 3); k++) near[k] = 1;
  });
  const shown = [];
  lines.forEach((line, i) => {
    if (near[i]) shown.push(line);
    else if (shown.at(-1)?.[0] === "…") shown.at(-1)[1]++;
    else shown.push(["…", 1]);
  });
  return shown;
}

/** Return a text quoted for a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curlOf(curl, origin) {
  const [, dialect] = curl.path.match(/(messages|generateContent|streamGenerateContent)/) ?? [];
  const header = { messages: "x-api-key: ", generateContent: "x-goog-api-key: ", streamGenerateContent: "x-goog-api-key: " };
  const key = `"${header[dialect] ?? "authorization: Bearer "}$KEY"`;
  const version = dialect === "messages" ? ` \\\n  -H 'anthropic-version: 2023-06-01'` : "";
  return (
    `curl ${quoted(origin + curl.path)} -X ${quoted(curl.method)} \\\n  -H ${key}${version} \\\n` +
    `  -H 'content-type: application/json' \\\n  --data-binary ${quoted(curl.body)}`
  );
}

// Ranges of numbers, half-open: [[0, 7], [9, 10]]
const lengthOf = (ranges) => ranges.reduce((sum, [start, stop]) => sum + stop - start, 0);

/** Return the numbers at the places `from` to `to` of ranges. */
function numbersAt(ranges, from, to) {
  const found = [];
  let place = 0;
  for (const [start, stop] of ranges) {
    if (place >= to) break;
    for (let n = Math.max(start, start + from - place); n < Math.min(stop, start + to - place); n++) found.push(n);
    place += stop - start;
  }
  return found;
}
