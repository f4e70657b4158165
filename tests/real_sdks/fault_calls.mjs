// What JavaScript's SDKs make of faults: as fault_calls.py, in Node.

import Anthropic from "@anthropic-ai/sdk";
import { ApiError, GoogleGenAI } from "@google/genai";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const ASKED = [{ role: "user", content: "What does the fox do?" }];
const AT_ONCE = 24;

const told = (text, reason, args = []) => ({ text: text ?? "", reason: reason ?? null, arguments: args });
const odd = (found) => ({ type: found === null || found === undefined ? String(found) : found.constructor?.name ?? typeof found });

const openai = ({ url, key, timeout }) => new OpenAI({ baseURL: url, apiKey: key, timeout: timeout * 1000 });
const anthropic = ({ url, key, timeout }) => new Anthropic({ baseURL: url, apiKey: key, timeout: timeout * 1000 });
const google = ({ url, key, timeout }) => new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url, timeout: timeout * 1000 } });

function message(found) {
  if (!Array.isArray(found?.content)) return odd(found);
  const of = (type) => found.content.filter((block) => block.type === type);
  const text = of("text").map((block) => block.text).join("");
  return told(text, found.stop_reason, of("tool_use").map((block) => JSON.stringify(block.input)));
}

function content(responses) {
  const candidates = responses.flatMap((response) => response.candidates ?? []);
  const parts = candidates.flatMap((each) => each.content?.parts ?? []);
  const reason = candidates.map((each) => each.finishReason).filter(Boolean).at(-1);
  const calls = parts.filter((part) => part.functionCall).map((part) => JSON.stringify(part.functionCall.args));
  return told(parts.map((part) => part.text ?? "").join(""), reason, calls);
}

const CALLS = {
  "openai whole": async (job) => {
    const found = await openai(job).chat.completions.create({ model: "m", messages: ASKED });
    if (!found?.choices?.length) return odd(found);
    const { message, finish_reason } = found.choices[0];
    return told(message.content, finish_reason, (message.tool_calls ?? []).map((call) => call.function.arguments));
  },
  "openai streamed": async (job) => {
    let text = "", args = "", reason = null;
    for await (const chunk of await openai(job).chat.completions.create({ model: "m", messages: ASKED, stream: true })) {
      for (const choice of chunk.choices ?? []) {
        text += choice.delta.content ?? "";
        reason = choice.finish_reason ?? reason;
        for (const call of choice.delta.tool_calls ?? []) args += call.function.arguments ?? "";
      }
    }
    return told(text, reason, args ? [args] : []);
  },
  "anthropic whole": async (job) => message(await anthropic(job).messages.create({ model: "m", max_tokens: 100, messages: ASKED })),
  "anthropic streamed": async (job) =>
    message(await anthropic(job).messages.stream({ model: "m", max_tokens: 100, messages: ASKED }).finalMessage()),
  "google whole": async (job) => content([await google(job).models.generateContent({ model: "m", contents: "What does the fox do?" })]),
  "google streamed": async (job) => {
    const responses = [];
    for await (const each of await google(job).models.generateContentStream({ model: "m", contents: "What does the fox do?" })) responses.push(each);
    return content(responses);
  },
};
const OWN = { openai: OpenAI.OpenAIError, anthropic: Anthropic.AnthropicError, google: ApiError };

async function run(job) {
  const own = OWN[job.call.split(" ")[0]];
  let timer;
  const waited = new Promise((resolve) => { timer = setTimeout(() => resolve({ waits: true }), job.gives_up * 1000); });
  const called = CALLS[job.call](job).catch((error) => ({ raised: error?.constructor?.name ?? String(error), own: error instanceof own }));
  console.log(JSON.stringify({ job: job.job, ...(await Promise.race([called, waited])) }));
  clearTimeout(timer);
}

const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const versions = { openai: version("openai"), anthropic: version("@anthropic-ai/sdk"), google: version("@google/genai") };
console.log(JSON.stringify({ versions, runtime: `Node ${process.versions.node.split(".").slice(0, 2).join(".")}` }));
process.on("unhandledRejection", () => {}); // of a stream that nobody waits for any more
const jobs = JSON.parse(readFileSync(0));
await Promise.all(Array.from({ length: AT_ONCE }, async () => { while (jobs.length) await run(jobs.shift()); }));
process.exit(0);
