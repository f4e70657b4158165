"""The protocol between the page of the live view and its server.

Routes. All paths begin with `/view`; the endpoint's other routes are not affected.

=============================================  ======================================================================
`GET /view`                                    308 to `/view/`
`GET /view/`                                   the page, `page/index.html`; without a key
`GET /view/assets/NAME`                        a file of `page/` or `page/vendor/`, from a fixed list; without a key
`GET /view/api/stream`                         the stream of events: snapshot first, then frames
`GET /view/api/snapshot`                       the snapshot alone, as JSON
`GET /view/api/runs/RUN/turns`                 the rows of all turns and service calls of a run
`GET /view/api/runs/RUN/turns/CALL`            one turn, or one call in flight, without its messages
`GET /view/api/runs/RUN/turns/CALL/raw`        one turn with all recorded fields, and its HTTP traffic
`GET /view/api/runs/RUN/messages?numbers=0-3,7`   messages by their numbers (both ends inclusive), at most 500
`GET /view/api/runs/RUN/tools/NUMBER`          a list of tools
`GET /view/api/runs/RUN/diff?before=CALL&after=CALL`   the differences between two calls of one run
`GET /view/api/search?q=TEXT[&run=RUN]`        places in messages and answers that contain the text
`GET /view/api/compare?a=RUN&b=RUN`            two runs side by side
`POST /view/api/decide`                        a decision about a tool call that waits
=============================================  ======================================================================

RUN is the member `run` of a row (`Trace.run`). CALL is the id of a call (`Turn.id`, the id of the call's exchange).

Key. `endpoint.view_url` is `http://HOST:PORT/view/#key=KEY`. A browser sends no fragment to a server. The page keeps
the key in sessionStorage, removes it from the address with `history.replaceState`, and sends it with each request to
`/api` as `Authorization: Bearer KEY`. The page may use other members of the fragment (`#key=…&run=…&turn=…`). A request
with a wrong key, or without a key, gets 401. A request whose `Host` is not this endpoint gets 421. A request whose
`Origin` is not this endpoint gets 403. After a 401, the page must not repeat the request, but ask the person for the
key. `POST` needs `content-type: application/json`. Errors are JSON: `{"error": {"message": TEXT}}`. No response has an
`Access-Control-Allow-Origin` header.

Stream. The stream is `text/event-stream`. The page reads it with `fetch`, because EventSource cannot send a header. The
stream of recorded runs consists of one event, the snapshot. Each event has `id` (a number that grows, but may skip
numbers), `event` (one of the names below) and `data` (JSON on one line). The server sends a comment line (`: `) every
15 s. The server collects the events of 50 ms, and sends these events together.

1. The first event is `snapshot`. A snapshot contains the whole state, and `seq`, the number of the last event that the
   state includes. Every later event has a larger id.
2. When a page that was disconnected connects again, it sends `Last-Event-ID: ID`. If the server still has the events
   after ID, it sends these events and no snapshot. Otherwise the first event is a `snapshot`, which replaces the page's
   whole state (`rows`, `calls`, `waiting`). The turns in the page's cache stay valid, but some may be missing, so the
   page again loads the turns of the run that it shows.
3. A viewer that reads too slowly gets a further `snapshot` in the middle of the stream, in place of the events that it
   missed. This snapshot replaces the page's state, too.
4. When the endpoint ends, the stream ends with the event `bye`, whose `data` is `{}`. After `bye`, the page does not
   reconnect. If the stream ends without `bye`, the page reconnects, with growing pauses up to 15 s. A browser opens at
   most six connections to one host, so all tabs share one stream (Web Locks and BroadcastChannel).

Frames (the events of the stream). Times (`at`, `opened_at`, …) are seconds since the epoch; durations are seconds. If a
member is `null`, its value is unknown or does not apply. Later versions may add members and events: the page ignores
unknown members and events.

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

`row` is a Row. The server sends a `row` when a run has begun, or a member of its row has changed. The row replaces the
row with the same `run`::

    {"run": "…", "rollout": "r_1",
     "title": "Fix the bug",    # its task, its own id, or the first words of its prompt; "": no call yet
     "number": 1,               # in the order of arrival, from 1
     "file": "",                # the recorded file, if there are several
     "parent": null,            # `run` of the parent, if this is a child rollout
     "opened_at": 1700000000.0, "ended_at": null,
     "state": "running",        # "waiting": for a decision; "running": a call is in flight; "idle": open, no call;
                                # "ended"; "failed": the body raised, or the last call failed;
                                # "stopped": a limit or the program stopped it; "cut": a file without its end;
                                # "ended, with gaps": a file with its end, and lines that are missing or changed
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

`call` is a Call. The server sends a `call` when a model call has arrived::

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
`refusal`, `tool_call` (`text` is the arguments so far), `other` or `raw`. A snapshot contains only the last 20,000
characters of a text; `skipped` is the number of characters before them.

`more` is a piece of an answer in progress, which the page appends to a part: `{"run", "call": "x_1", "part", "kind",
"text", "tool_call": "id", "tool": "name", "first": 0.8}`. The first piece of a part creates the part. Adjacent pieces
of one part may be joined into one `more`.

`asked` is a Question. The server sends an `asked` when a tool call waits for a decision. A second `asked` with the same
id replaces the first::

    {"id": "q_1", "run": "…", "call": "x_1", "tool_call": "toolu_1", "tool": "Bash", "arguments": "{…}", "at": …,
     "here": true}              # false: another policy decides (such as the terminal alone): show it without buttons

`decided`: `{"id": "q_1", "run", "call", "decision": Decided}`, or `"decision": null` if the question was withdrawn
(the agent disconnected, or the run ended). Decided: `{"call": "toolu_1", "tool", "kind", "arguments": null, "reason":
"", "by": "page: Ann", "seconds": 3.1, "way": "answer|gate"}`; `kind` has the same values as in `decide`. Every page
shows the person that decided (`by`).

`turn` is a TurnRow. The server sends a `turn` when a call has its outcome. The TurnRow replaces the Call with the same
id::

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

`lost` is `{"run", "call": "x_1"}`. The server sends a `lost` when a call has ended without a turn.

`service` is a ServiceRow. The server sends a `service` when a call to a host service has ended::

    {"run", "id", "number", "kind": "tool", "name", "outcome", "at", "duration", "turns": 2, "error": null}

`evaluation` comes when the tasks of the running evaluation have changed. Its `data` replaces the snapshot's
`evaluation`.

Details. `GET …/turns` returns `{"turns": [TurnRow, …], "services": [ServiceRow, …], "agents": [{"argv": […], "cwd",
"at"}]}`. Each ServiceRow also has `arguments` and `result` (JSON). The rows replace the rows of earlier `turn` events,
because a later call can show that an earlier call was a side call.

`GET …/turns/CALL` returns::

    {"turn": TurnRow,           # or "call": Call, for a call in flight
     "request": {…},            # the request without its messages and tools: sampling, extra, …
     "response": {…},           # the answer without its content: id, model, usage, extra; null without one
     "drafts": [{"why", "counted", "response": {…}, "error", "duration"}],
     "notes": {…}, "has_wire": false}

`GET …/raw` returns `{"turn": {…}, "wire": null or {"method", "url", "headers", "body": TEXT, "status",
"answer_headers", "answer": TEXT}, "curl": {"method", "path", "body": TEXT}}`. `curl` is the request, written anew in
its dialect, for the button "copy as curl", with `$KEY` in place of the key. If the dialect cannot write the request,
`curl` is null.

`GET …/messages` returns `{"messages": {"0": Message, …}}`, where Message is `{"role": "system|developer|user|assistant|
tool", "content": [Part, …], "name"?}`. Parts have the member `part`: `Text` (`text`), `Reasoning` (`text`), `Media`
(`kind`, `url`, `data` (base64), `media_type`, `name`), `ToolCall` (`name`, `arguments` (text), `id`, `kind`),
`RefusalText` (`text`), `Opaque` (`dialect`, `raw`), `ToolResult` (`id`, `content` (parts), `is_error`, `name`). Members
with default values are left out. Equal messages have the same number. Messages are equal even if their cache marks or
ids of calls differ, but not if their reasoning differs. Within a run, a number always stands for the same message, so
the page caches messages by number.

`GET …/tools/N` returns `{"tools": [{"name", "description", "parameters", "kind"}]}`.

`GET …/diff` returns `{"messages": [{"kind": "added|dropped|edited", "before": INDEX, "after": INDEX, "old": NUMBER,
"new": NUMBER, "edit": {"at", "place", "removed", "added"}}], "same": 5, "tools": {"added": [], "dropped": [], "edited":
[], "reordered": false, "count": 3}, "settings": {"path": [BEFORE, AFTER]}}`.

`GET …/runs/RUN/file` returns the run as one HTML file (see below).

`GET …/search` returns `{"q", "hits": [{"run", "call": "x_1", "message": NUMBER, "role", "excerpt", "start", "end"}],
"more": false}`. `start` and `end` are indexes in `excerpt`; `call` is the first call that contains the message. There
are at most 200 hits. The search ignores case. `q` has at most 500 characters.

`GET …/compare` returns `{"a": Row, "b": Row, "pairs": [{"a": CALL or null, "b": CALL or null, "kind":
"same|changed|only_a|only_b"}]}`; the turns are those of `…/turns`.

`POST …/decide` takes `{"id": "q_1", "kind": "approve|modify|reject|answer|terminate", "arguments"?: TEXT, "reason"?:
TEXT, "by"?: TEXT}`. `modify` needs `arguments`; `reject`, `answer` and `terminate` may have `reason`. The answers are:

* 200 `{"decided": true}`: the decision was accepted.
* 409 `{"error": {"message"}, "decision": Decided or null}`: the tool call was decided before, or withdrawn.
* 400 with the reason: the decision is invalid, and the question stays open. For example, the arguments are no JSON
  object, or contain `[redacted]` in place of a key that the page did not get.

One HTML file (`triocept export --to html`). The file is `page/index.html` with the style sheets and scripts in it. They
replace the following tags, so these tags must have exactly this form, each on a line of its own::

    <link rel="stylesheet" href="assets/NAME.css">
    <script src="assets/NAME.js"></script>

An element `<script type="text/plain" id="triocept-data">` comes before the first script. Its text is base64 of gzip of
JSON, with the same shapes::

    {"version": 1, "snapshot": {…, "live": false, "can_decide": false},
     "runs": {RUN: {"turns": […], "services": […], "agents": […], "messages": [Message, …],      # by number
                    "tools": [[…], …], "details": {CALL: {"request", "response", "drafts", "notes"}}}}}

If the page contains this element, it reads everything from the element, and sends no request. Search and comparison
then run in the page. If the browser lacks DecompressionStream, the page shows an error.
"""

from __future__ import annotations

VERSION = 1
"""Version of the protocol. It changes if the meaning of a member changes."""
