"use strict";
// Save a rollout as one HTML file: this page with the data in it. The file loads nothing and sends nothing.

async function collect(row) {
  const { run } = row;
  const { turns, services, agents } = await source.turns(run);
  const most = turns.reduce((max, turn) => Math.max(max, turn.answer ?? -1, ...turn.messages.map(([, stop]) => stop - 1), ...turn.gone.map(([, stop]) => stop - 1)), -1);
  const messages = [];
  for (let from = 0; from <= most; from += MOST_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(MOST_AT_ONCE, most + 1 - from) }, (_, i) => from + i);
    const found = await source.messages(run, numbers);
    messages.push(...numbers.map((number) => found[number] ?? null));
  }
  const tools = [];
  for (const turn of turns) if (turn.tools != null) tools[turn.tools] ??= await source.tools(run, turn.tools);
  const details = {};
  for (let i = 0; i < turns.length; i += 4)
    await Promise.all(turns.slice(i, i + 4).map(async ({ id }) => {
      const { request, drafts, notes } = await source.detail(run, id);
      details[id] = { request, drafts, notes };
    }));
  const snapshot = { seq: 0, version: VERSION, live: false, title: `${row.rollout}, saved ${new Date().toLocaleString()}`, now: now(),
    can_decide: false, rows: [{ ...row, parent: null, in_flight: 0, waiting: 0 }], calls: [], waiting: [], notes: row.ended_at ? [] : ["The rollout had not ended when this file was saved."] };
  return { version: VERSION, snapshot, runs: { [run]: { turns, services, agents, messages, tools, details } } };
}

async function base64(bytes) {
  const reader = new FileReader();
  await new Promise((resolve) => ((reader.onload = resolve), reader.readAsDataURL(new Blob([bytes]))));
  return reader.result.split(",")[1];
}

const TAGS = /<link rel="stylesheet" href="(assets\/[\w./-]+)">|<script src="(assets\/[\w./-]+)"><\/script>/g;
const STRICT = "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

async function pageWith(data) {
  const text = async (url) => (await fetch(url, { cache: "no-store" })).text();
  const html_ = await text(location.pathname);
  const zipped = new Response(new Blob([JSON.stringify(data)]).stream().pipeThrough(new CompressionStream("gzip")));
  const embedded = `<script type="text/plain" id="triocept-data">${await base64(await zipped.arrayBuffer())}</script>\n`;
  const hashes = { style: [], script: [] };
  let whole = "";
  let end = 0;
  for (const match of html_.matchAll(TAGS)) {
    const kind = match[1] ? "style" : "script";
    const content = (await text(match[1] ?? match[2])).replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
    hashes[kind].push(`'sha256-${await base64(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content)))}'`);
    whole += html_.slice(end, match.index) + (kind === "script" && hashes.script.length === 1 ? embedded : "") + `<${kind}>${content}</${kind}>`;
    end = match.index + match[0].length;
  }
  const policy = `default-src 'none'; script-src ${hashes.script.join(" ")}; style-src ${hashes.style.join(" ")}; img-src data:; ${STRICT}`;
  return (whole + html_.slice(end)).replace("<head>", () => `<head>\n<meta http-equiv="Content-Security-Policy" content="${policy}">`);
}

async function exportRun(row) {
  if (!window.CompressionStream || !crypto.subtle)
    return toast("This page cannot save files here: open it by https or on localhost, or use triocept export --to html.", true);
  toast("The file is being made …");
  try {
    const url = URL.createObjectURL(new Blob([await pageWith(await collect(row))], { type: "text/html" }));
    const link = h("a", { href: url, download: `${row.rollout.replace(/[^\w.-]/g, "_")}.html` });
    const place = document.createElement("div");
    render(link, place);
    place.firstChild.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    toast(plain(error.message), true);
  }
}
