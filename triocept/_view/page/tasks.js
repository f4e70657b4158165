"use strict";
// The tasks of evaluations with their samples and scores; two stores stand side by side.

view.tasks = "all";
const SAMPLES = { passed: "✓", below: "✕", unscored: "?", missing: "–" };
const SHOWN = { all: "all", scored: "scored", below: "scored, not passed", unscored: "without a score", flipped: "flipped" };
const MOST_TASKS = 500;

function isShown(task) {
  if (view.tasks === "all" || view.tasks === "flipped") return view.tasks === "all" || task.flipped;
  const wanted = view.tasks === "scored" ? ["passed", "below"] : [view.tasks];
  return task.samples.flat().some((sample) => wanted.includes(sample.state));
}

function Tasks() {
  const { stores, tasks } = state.evaluation;
  const shown = tasks.filter(isShown);
  const sample = ({ run, state: is, text }) => html`<button type="button" class=${`hit ${is === "unscored" ? "bad-text" : ""}`} disabled=${!run} aria-pressed=${run && run === view.run}
    onClick=${() => select(run, null, { panel: isNarrow() ? null : "tasks" })}><span aria-hidden="true">${SAMPLES[is]}</span> ${plain(text)}</button>`;
  return html`<section class="detail" aria-label="Tasks" tabindex="0"><div class="detail-head line wrap"><h2 class="grow">Tasks <span class="dim">${shown.length === tasks.length ? tasks.length : `${shown.length} of ${tasks.length}`}</span></h2>
      <label class="small">Show <select value=${view.tasks} onChange=${(event) => ((view.tasks = event.target.value), changed())}>${Object.entries(SHOWN).map(([name, what]) => html`<option value=${name}>${what}</option>`)}</select></label>
      <button type="button" onClick=${() => ((view.panel = null), changed())}>Close</button></div>
    <table class="tasks"><thead><tr><th scope="col">task</th>${stores.map((store) => html`<th scope="col">${plain(store.name)}<br /><span class="dim small">${plain(store.about)}</span></th>`)}</tr></thead>
      <tbody>${shown.slice(0, MOST_TASKS).map((task) => html`<tr key=${task.id}><th scope="row">${plain(task.id)} ${task.flipped && html`<span class="badge">flipped</span>`}</th>
        ${task.samples.map((samples) => html`<td>${samples.map(sample)}</td>`)}</tr>`)}</tbody></table>
    ${shown.length > MOST_TASKS && html`<p class="dim pad">and ${shown.length - MOST_TASKS} more</p>`}</section>`;
}
