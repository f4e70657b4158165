"use strict";
// The page: selection, keys, and the frame around the panels.

function App() {
  const [error] = useErrorBoundary((failure) => console.error(failure));
  if (error) return html`<p class="start bad">The page has failed: ${plain(error.message)}. Load it again.</p>`;
  if (state.status === "refused") return html`<${AskKey} />`;
  if (state.status === "failed") return html`<p class="start bad" role="alert">${state.problem}</p>`;
  if (state.status === "connecting" && !state.rows.size && !state.title) return html`<p class="start">Connecting …</p>`;
  settle();
  const pane = view.panel ? "panel" : view.turn != null ? "turn" : view.run ? "run" : "runs";
  return html`<${Header} />
    <${Notes} />
    <${Waiting} />
    <main class=${`pane-${pane}`}>
      <${Runs} />
      ${view.run ? html`<${Turns} key=${view.run} />` : html`<div class="turns empty"><p class="dim">Choose a rollout.</p></div>`}
      <${view.panel === "search" ? Search : view.panel === "compare" ? Compare : view.panel === "tasks" && state.evaluation ? Tasks : Detail} />
    </main>
    ${view.help && html`<${Help} />`}
    <${Toasts} />`;
}

const page = document.getElementById("page");
redraw = () => {
  render(html`<${App} />`, page);
  const waiting = [...state.waiting.values()].filter((each) => each.here).length;
  const title = `${waiting ? `(${waiting}) ` : ""}${state.status === "recorded" && state.title ? `${plain(state.title)} · ` : ""}triocept`;
  if (document.title !== title) document.title = title;
};
page.textContent = "";

readAddress();
window.addEventListener("hashchange", () => {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  readAddress();
  if (key && key !== source?.key) connect(key);
  changed();
});
document.addEventListener("keydown", onKey);
start().then(answerTabs);
setInterval(() => state.calls.size && changed(), 500); // bars of calls in flight grow
