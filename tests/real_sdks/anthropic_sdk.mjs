// The npm package `@anthropic-ai/sdk`, unchanged: `node anthropic_sdk.mjs messages|beta`.

import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { PIXEL, WEATHER, errors, raised, run, sunny } from "./scenarios.mjs";

const client = new Anthropic(); // ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY
const once = new Anthropic({ authToken: null, maxRetries: 0 });
const of = (from) => (process.argv[2] === "beta" ? from.beta.messages : from.messages);
const messages = of(client);
const describe = (error) => [error.constructor.name, error.status];

const said = (...turns) => ({ model: "m", max_tokens: 1000, messages: turns });
const user = (content) => ({ role: "user", content });
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");
const answer = (message) => ({
  text: textOf(message),
  usage: [message.usage.input_tokens, message.usage.output_tokens],
});

async function pieces(stream, each = () => {}) {
  let text = "", input, output;
  for await (const event of stream) {
    if (event.type === "message_start") input = event.message.usage.input_tokens;
    if (event.type === "message_delta") {
      output = event.usage.output_tokens;
      input = event.usage.input_tokens ?? input; // only an estimate was known at the start
    }
    if (event.delta?.type === "text_delta") text += event.delta.text;
    each(text);
  }
  return { text, usage: [input, output] };
}

async function loop(name, ask) {
  const tools = [{ name: "weather", input_schema: WEATHER }];
  const turns = [user(name)];
  for (;;) {
    const message = await ask({ ...said(...turns), tools });
    const calls = message.content.filter((block) => block.type === "tool_use");
    if (!calls.length) return { text: textOf(message) };
    const results = calls.map(({ id, input }) => ({
      type: "tool_result",
      tool_use_id: id,
      content: sunny(input),
    }));
    turns.push({ role: "assistant", content: message.content }, user(results));
  }
}

await run({
  whole: async (name) => answer(await messages.create(said(user(name)))),
  stream: async (name) => pieces(await messages.create({ ...said(user(name)), stream: true })),
  helper: async (name) => {
    const stream = messages.stream(said(user(name)));
    let text = "";
    stream.on("text", (delta) => (text += delta));
    return { ...answer(await stream.finalMessage()), text };
  },
  image: async (name) => {
    const source = { type: "base64", media_type: "image/png", data: PIXEL };
    return answer(await messages.create(said(user([{ type: "text", text: name }, { type: "image", source }]))));
  },
  tools: (name) => loop(name, (body) => messages.create(body)),
  "tools streamed": (name) => loop(name, (body) => messages.stream(body).finalMessage()),
  "tools run": async (name) => {
    const weather = betaTool({ name: "weather", inputSchema: WEATHER, run: sunny, description: "The weather." });
    const runner = client.beta.messages.toolRunner({ ...said(user(name)), tools: [weather] });
    return { text: textOf(await runner) };
  },
  object: async (name) => {
    const output_config = { format: zodOutputFormat(z.object({ city: z.string(), people: z.number() })) };
    return (await messages.parse({ ...said(user(name)), output_config })).parsed_output;
  },
  count: async (name) => (await messages.countTokens({ model: "m", messages: [user(name)] })).input_tokens > 0,
  errors: () => errors((name) => of(once).create(said(user(name))), describe),
  broken: (name) => raised(async () => pieces(await of(once).create({ ...said(user(name)), stream: true }))),
  retry: async (name) => answer(await messages.create(said(user(name)))),
  abort: async (name) => {
    const stream = await messages.create({ ...said(user(name)), stream: true });
    const { text } = await pieces(stream, (text) => text && stream.controller.abort());
    return { text };
  },
  silence: async (name) => pieces(await messages.create({ ...said(user(name)), stream: true })),
});
