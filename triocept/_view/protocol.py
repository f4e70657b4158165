"""The protocol between the page of the live view and its server.

Routes. All paths begin with `/view`; the endpoint's other routes do not change.

=============================================  ======================================================================
`GET /view`                                    308 to `/view/`
`GET /view/`                                   the page, `page/index.html`; without a key
`GET /view/assets/NAME`                        a file of `page/` or `page/vendor/`, from a fixed list; without a key
`GET /view/api/stream`                         the stream of events: snapshot first, then frames
`GET /view/api/snapshot`                       the snapshot alone, as JSON
`GET /view/api/runs/RUN/turns`                 the rows of all turns and service calls of a run
`GET /view/api/runs/RUN/turns/CALL`            one turn, or one call in flight, without its messages
`GET /view/api/runs/RUN/turns/CALL/raw`        one turn with everything that is recorded, and its HTTP traffic
`GET /view/api/runs/RUN/messages?numbers=0-3,7`   messages by their numbers (both ends inclusive), at most 500
`GET /view/api/runs/RUN/tools/NUMBER`          a list of tools
`GET /view/api/runs/RUN/diff?before=CALL&after=CALL`   the differences between two calls of one run
`GET /view/api/search?q=TEXT[&run=RUN]`        places in messages and answers that contain the text
`GET /view/api/compare?a=RUN&b=RUN`            two runs side by side
`POST /view/api/decide`                        a decision about a tool call that waits
=============================================  ======================================================================

RUN is `run` of a row (`Trace.run`), CALL the id of a call (`Turn.id`, the id of its exchange).

Key. `endpoint.view_url` is `http://HOST:PORT/view/#key=KEY`. A browser sends no fragment to a server. The page keeps
the key in sessionStorage, removes it from the address with `history.replaceState`, and sends it with each request to
`/api` as `Authorization: Bearer KEY`. Other members of the fragment are the page's own (`#key=…&run=…&turn=…`). A
request with a wrong key, or none, gets 401; with a `Host` that is not this endpoint's 421; with a foreign `Origin` 403.
The page must not repeat a request after 401, but ask for the key. `POST` needs `content-type: application/json`. Errors
are JSON: `{"error": {"message": TEXT}}`. No response has an `Access-Control-Allow-Origin` header.

Stream. The stream is `text/event-stream`, read with `fetch`, because EventSource cannot send a header. The stream of
recorded runs is one event, the snapshot. Each event has
`id` (a number that grows, with gaps), `event` (one of the names below) and `data` (JSON on one line). Comment lines
(`: `) come every 15 s. The server sends the frames of 50 ms together.

1. The first event is `snapshot`, the whole state with `seq`, the number of the last event that it contains. Every later
   event has a larger id.
2. A page that was disconnected sends `Last-Event-ID: ID`. If the server still has the events after ID, it sends these
   and no snapshot. Otherwise the first event is a `snapshot`, which replaces the page's whole state (`rows`, `calls`,
   `waiting`; turns of runs in the cache stay valid, but may miss rows: load the turns of the run in view again).
3. A viewer that reads too slowly gets a further `snapshot` in the middle of the stream, in place of the events that it
   missed. Treat it as in 2.
4. The stream ends with the endpoint, after the event `bye`; `data` is `{}`. The page then does not reconnect. After any
   other end it reconnects, with growing pauses up to 15 s. Six streams exhaust a browser's connections to one host:
   share one between tabs (Web Locks and BroadcastChannel).

Frames. Times (`at`, `opened_at`, …) are seconds since the epoch; durations are seconds. A member that is `null` is
unknown or does not apply. Later versions may add members and events: ignore those that are unknown.

`snapshot`::

    {"seq": 17, "version": 1,
     "live": true,              # false: recorded files or one HTML file, without stream, decisions and server time
     "title": "http://127.0.0.1:4000",      # or the name of the file
     "now": 1700000000.1,       # the server's time: the page's clock may differ
     "can_decide": true,
     "rows": [Row, …],          # all runs, in the order of their beginning
     "calls": [Call, …],        # all calls in flight, with the text so far
     "waiting": [Question, …],  # all tool calls that wait for a decision
     "notes": ["line 7 of traces.jsonl cannot be read: …"],    # problems of recorded files, for the reader
     "evaluation": null}        # or, for stores of evaluations:
                                # {"stores": [{"name": "runs/a", "about": "claude-code · qwen"}, …],
                                #  "tasks": [{"id": "dates", "flipped": false, "samples": [[Sample, …], …]}]}
                                # with a list of samples for each store. Sample: {"run": "…" or null, "state": "passed",
                                # "below" (scored, first score below 1), "unscored" or "missing", "text": "check 1"}

`row` is a Row: a run began, or something in its row changed (replace the row with the same `run`)::

    {"run": "…", "rollout": "r_1",
     "title": "Fix the bug",    # its task, its own id, or the first words of its prompt; "": no call yet
     "number": 1,               # in the order of arrival, from 1
     "file": "",                # the recorded file, if there are several
     "parent": null,            # `run` of the parent, if this is a child rollout
     "opened_at": 1700000000.0, "ended_at": null,
     "state": "running",        # "waiting": for a decision; "running": a call is in flight; "idle": open, no call;
                                # "ended"; "failed": the body raised, or the last call failed;
                                # "stopped": a limit or the program stopped it; "cut": a file without its end
     "stopped": null,           # reason of the stop
     "ended": null,             # "body", "cancelled", "raised"
     "agent": "claude-code 2.1",        # of the first agent or call; "" if unknown
     "model": "claude-sonnet-4-5",      # of the latest call; ""
     "turns": 3, "failed": 0,           # settled calls, and those that were not answered
     "in_flight": 1, "waiting": 0,
     "input_tokens": 1000, "output_tokens": 20,
     "cached_tokens": null, "cache_write_tokens": null, "reasoning_tokens": null,
     "estimated": false,        # true: some counts are estimates, show "~"
     "cost": null,              # only with prices (`Limits(prices=…)`)
     "busy": 12.5,              # seconds in which a settled call was in progress, without `waited`, summed
     "waited": 40.0,            # seconds in which settled calls waited for decisions about tool calls, summed
     "text": "last words",      # at most 200 characters of the latest text of the model
     "error": "",               # of the latest call, if it failed
     "scores": {"reward": 1.0}, "metadata": {},
     "kept": true}              # false: an old run, of which only this row is kept

`call` is a Call that has arrived::

    {"run": "…", "id": "x_1", "at": …, "model": "…", "dialect": "anthropic_messages", "agent": "…",
     "messages": [[0, 7]],      # half-open ranges of message numbers, in order
     "tools": 0,                # number of the list of tools, null without tools
     "shared": 6, "continues": "x_0",           # as in a TurnRow
     "conversation": {"id": "…", "kind": "main", "parent": null},
     "text": "the newest message's end",        # at most 200 characters
     "first": null,             # seconds until the first increment
     "parts": [Part, …],        # the answer so far; only in a snapshot, otherwise []
     "sent": 0,                 # number of characters and pieces so far: grows with each increment
     "decisions": [Decided, …]} # about tool calls of this call; each `decided` frame adds one

Part: `{"part": 0, "kind": "text", "text": "…", "call": "", "tool": "", "skipped": 0}`. `kind` is `text`, `reasoning`,
`refusal`, `tool_call` (`text` is the arguments so far), `other` or `raw`. Only the last 20,000 characters of a text are
in a snapshot; `skipped` is the number before them.

`more` is text of an answer in progress, to append: `{"run", "call": "x_1", "part", "kind", "text", "tool_call": "id",
"tool": "name", "first": 0.8}`. The first piece of a part creates it. Adjacent pieces of one part come joined.

`asked` is a Question, a tool call that waits (a second `asked` with the same id replaces the first)::

    {"id": "q_1", "run": "…", "call": "x_1", "tool_call": "toolu_1", "tool": "Bash", "arguments": "{…}", "at": …,
     "here": true}              # false: another policy decides (such as the terminal alone): show it without buttons

`decided`: `{"id": "q_1", "run", "call", "decision": Decided}`, or `"decision": null` if the question was withdrawn
(the agent left, or the run ended). Decided: `{"call": "toolu_1", "tool", "kind", "arguments": null, "reason": "", "by":
"page: Ann", "seconds": 3.1, "way": "answer|gate"}`; kinds as in `decide`. Show in every page who decided.

`turn` is a TurnRow: a call has its outcome. It replaces the Call with the same id::

    {"run": "…", "id": "x_1", "number": 2, "at": …,
     "first": 0.8, "duration": 2.5,     # seconds; `first` null: the answer was given whole
     "waited": 0.0,             # seconds of `duration` in which the call waited for decisions
     "outcome": "answered",             # "refused", "failed", "abandoned"
     "dialect": "…", "model": "…", "agent": "…", "attempt": 1,
     "conversation": {"id": "…", "kind": "main", "parent": null, "name": "main"},   # kinds: main, sub_agent, side, tool
     "relation": {"kind": "continues", "turn": "x_0", "call": null},
                                # kinds: begins, continues, retry, repeat, compaction, rewrite, sub_agent (`turn` is the
                                # turn whose tool call with index `call` began it), side, tool
     "continues": "x_0",        # the turn with which `shared` compares; null: none
     "messages": [[0, 7]],      # half-open ranges of numbers of the request's messages, in order
     "shared": 6,               # the first 6 messages are those of `continues` and its answer; the rest is new
     "gone": [[3, 5]],          # numbers of messages of `continues` that this call has no more: show them as removed
     "tools": 0, "tools_changed": false, "system_changed": false,       # against `continues`
     "answer": 7,               # number of the answer as a message (role assistant); null without content
     "text": "…", "calls": ["Bash"],    # of the answer: at most 200 characters, names of tools
     "stop": "tool_use",        # stop reason; "" if unknown
     "usage": {"input_tokens": 1, "output_tokens": 1, "cached_tokens": null, "cache_write_tokens": null,
               "reasoning_tokens": null, "estimated": false},           # or null
     "cost": null,
     "error": null,             # or {"type", "message", "status"}
     "decisions": [Decided, …], "drafts": 0}

`lost`: `{"run", "call": "x_1"}`: a call ended without a turn. `service`: a ServiceRow of a host service::

    {"run", "id", "number", "kind": "tool", "name", "outcome", "at", "duration", "turns": 2, "error": null}

`evaluation`: the tasks of the evaluation that is running have changed; `data` replaces the snapshot's `evaluation`.

Details. `GET …/turns` returns `{"turns": [TurnRow, …], "services": [ServiceRow, …], "agents": [{"argv": […], "cwd",
"at"}]}`. The services also have `arguments` and `result` (JSON). Rows in it are better than earlier frames: a later
call can show that an earlier one was a side call.

`GET …/turns/CALL` returns::

    {"turn": TurnRow,           # or "call": Call, for a call in flight
     "request": {…},            # the request without its messages and tools: sampling, extra, …
     "response": {…},           # the answer without its content: id, model, usage, extra; null without one
     "drafts": [{"why", "counted", "response": {…}, "error", "duration"}],
     "notes": {…}, "has_wire": false}

`GET …/raw` returns `{"turn": {…}, "wire": null or {"method", "url", "headers", "body": TEXT, "status",
"answer_headers", "answer": TEXT}, "curl": {"method", "path", "body": TEXT}}`. `curl` is the request rebuilt in its
dialect, for "copy as curl" with `$KEY` in place of the key; null if it cannot be rebuilt.

`GET …/messages` returns `{"messages": {"0": Message, …}}`, where Message is `{"role": "system|developer|user|assistant|
tool", "content": [Part, …], "name"?}`. Parts have the member `part`: `Text` (`text`), `Reasoning` (`text`), `Media`
(`kind`, `url`, `data` (base64), `media_type`, `name`), `ToolCall` (`name`, `arguments` (text), `id`, `kind`),
`RefusalText` (`text`), `Opaque` (`dialect`, `raw`), `ToolResult` (`id`, `content` (parts), `is_error`, `name`). Members
with default values are left out. Equal messages have one number: cache marks and ids of calls do not make messages
different, but reasoning does. Numbers of a run never change their meaning: keep messages by number.

`GET …/tools/N` returns `{"tools": [{"name", "description", "parameters", "kind"}]}`.

`GET …/diff` returns `{"messages": [{"kind": "added|dropped|edited", "before": INDEX, "after": INDEX, "old": NUMBER,
"new": NUMBER, "edit": {"at", "place", "removed", "added"}}], "same": 5, "tools": {"added": [], "dropped": [], "edited":
[], "reordered": false, "count": 3}, "settings": {"path": [BEFORE, AFTER]}}`.

`GET …/runs/RUN/file` returns the run as one HTML file (see below).

`GET …/search` returns `{"q", "hits": [{"run", "call": "x_1", "message": NUMBER, "role", "excerpt", "start", "end"}],
"more": false}`; `start` and `end` are places in `excerpt`; `call` is the first call that contains the message. At most
200 hits. Case does not matter. `q` has at most 500 characters.

`GET …/compare` returns `{"a": Row, "b": Row, "pairs": [{"a": CALL or null, "b": CALL or null, "kind":
"same|changed|only_a|only_b"}]}`; the turns are those of `…/turns`.

`POST …/decide` takes `{"id": "q_1", "kind": "approve|modify|reject|answer|terminate", "arguments"?: TEXT, "reason"?:
TEXT, "by"?: TEXT}`. `modify` needs `arguments`, `reject`, `answer` and `terminate` take `reason`. It returns 200
`{"decided": true}`; 409 with `{"error": {"message"}, "decision": Decided or null}` if the tool call was decided before,
or withdrawn; 400 if the decision is invalid (arguments that are no JSON object, or that contain the mark of a key which
the page did not get), with the reason: the question stays.

One HTML file (`triocept export --to html`). It is `page/index.html` with style sheets and scripts inlined: these tags
are replaced, so they must have exactly this form, each on a line of its own::

    <link rel="stylesheet" href="assets/NAME.css">
    <script src="assets/NAME.js"></script>

An element `<script type="text/plain" id="triocept-data">` comes before the first script. Its text is base64 of gzip of
JSON, with the same shapes::

    {"version": 1, "snapshot": {…, "live": false, "can_decide": false},
     "runs": {RUN: {"turns": […], "services": […], "agents": […], "messages": [Message, …],      # by number
                    "tools": [[…], …], "details": {CALL: {"request", "response", "drafts", "notes"}}}}}

If the element is there, the page reads everything from it, and sends no request. Search and compare then run in the
page. In a browser without DecompressionStream it says so.
"""

from __future__ import annotations

VERSION = 1
"""Version of the protocol. It changes if a member changes its meaning."""
