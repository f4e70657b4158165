// The npm package `openai`, unchanged: `node openai_sdk.mjs chat|responses|completions`.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { PIXEL, WEATHER, errors, raised, run, sunny } from "./scenarios.mjs";

const client = new OpenAI(); // OPENAI_BASE_URL, OPENAI_API_KEY
const once = new OpenAI({ maxRetries: 0 });
const Town = z.object({ city: z.string(), people: z.number() });
const image = `data:image/png;base64,${PIXEL}`;
const describe = (error) => [error.constructor.name, error.status];

const said = (content) => ({ model: "m", messages: [{ role: "user", content }] });
const chatAnswer = ({ choices, usage }) => ({
  text: choices[0].message.content,
  usage: [usage.prompt_tokens, usage.completion_tokens],
});

async function chatPieces(stream, each = () => {}) {
  let text = "", usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    if (chunk.usage) usage = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
    each(text);
  }
  return { text, usage };
}

const streamed = { stream: true, stream_options: { include_usage: true } };
const chat = {
  whole: async (name) => chatAnswer(await client.chat.completions.create(said(name))),
  stream: async (name) => chatPieces(await client.chat.completions.create({ ...said(name), ...streamed })),
  helper: async (name) => {
    const stream = client.chat.completions.stream({ ...said(name), stream_options: { include_usage: true } });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    return { ...chatAnswer(await stream.finalChatCompletion()), text };
  },
  image: async (name) => {
    const content = [{ type: "text", text: name }, { type: "image_url", image_url: { url: image } }];
    return chatAnswer(await client.chat.completions.create(said(content)));
  },
  tools: async (name) => {
    const weather = { name: "weather", parameters: WEATHER, parse: JSON.parse, function: sunny };
    const tools = [{ type: "function", function: weather }];
    return { text: await client.chat.completions.runTools({ ...said(name), tools }).finalContent() };
  },
  "tools streamed": async (name) => {
    const weather = { name: "weather", parameters: WEATHER, parse: JSON.parse, function: sunny };
    const tools = [{ type: "function", function: weather }];
    return { text: await client.chat.completions.runTools({ ...said(name), tools, stream: true }).finalContent() };
  },
  object: async (name) => {
    const response_format = zodResponseFormat(Town, "town");
    return (await client.chat.completions.parse({ ...said(name), response_format })).choices[0].message.parsed;
  },
  "object streamed": async (name) => {
    const response_format = zodResponseFormat(Town, "town");
    const stream = client.chat.completions.stream({ ...said(name), response_format });
    return (await stream.finalChatCompletion()).choices[0].message.parsed;
  },
  errors: () => errors((name) => once.chat.completions.create(said(name)), describe),
  broken: (name) =>
    raised(async () => chatPieces(await once.chat.completions.create({ ...said(name), stream: true }))),
  retry: async (name) => chatAnswer(await client.chat.completions.create(said(name))),
  abort: async (name) => {
    const stream = await client.chat.completions.create({ ...said(name), stream: true });
    return chatPieces(stream, (text) => text && stream.controller.abort());
  },
  silence: async (name) => chatPieces(await client.chat.completions.create({ ...said(name), ...streamed })),
};

const asked = (input) => ({ model: "m", input });
const answer = ({ output_text, usage }) => ({
  text: output_text,
  usage: [usage.input_tokens, usage.output_tokens],
});
const tools = [{ type: "function", name: "weather", parameters: WEATHER, strict: true }];

async function pieces(stream, each = () => {}) {
  let text = "", last;
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") text += event.delta;
    if (event.type === "response.completed") last = event.response.usage;
    each(text);
  }
  return { text, usage: last && [last.input_tokens, last.output_tokens] };
}

async function loop(name, ask) {
  let response = await ask({ ...asked(name), tools });
  for (;;) {
    const calls = response.output.filter((item) => item.type === "function_call");
    if (!calls.length) return { text: response.output_text };
    const input = calls.map(({ call_id, arguments: written }) => ({
      type: "function_call_output",
      call_id,
      output: sunny(JSON.parse(written)),
    }));
    response = await ask({ ...asked(input), tools, previous_response_id: response.id });
  }
}

const responses = {
  whole: async (name) => answer(await client.responses.create(asked(name))),
  stream: async (name) => pieces(await client.responses.create({ ...asked(name), stream: true })),
  helper: async (name) => answer(await client.responses.stream(asked(name)).finalResponse()),
  image: async (name) => {
    const content = [{ type: "input_text", text: name }, { type: "input_image", image_url: image, detail: "auto" }];
    return answer(await client.responses.create(asked([{ role: "user", content }])));
  },
  tools: (name) => loop(name, (body) => client.responses.create(body)),
  "tools streamed": (name) => loop(name, (body) => client.responses.stream(body).finalResponse()),
  object: async (name) => {
    const text = { format: zodTextFormat(Town, "town") };
    return (await client.responses.parse({ ...asked(name), text })).output_parsed;
  },
  "object streamed": async (name) => {
    const text = { format: zodTextFormat(Town, "town") };
    return (await client.responses.stream({ ...asked(name), text }).finalResponse()).output_parsed;
  },
  stored: async (name) => {
    const { id } = await client.responses.create(asked(name));
    const again = await client.responses.retrieve(id);
    const events = await pieces(await client.responses.retrieve(id, { stream: true }));
    const items = await client.responses.inputItems.list(id);
    return { texts: [again.output_text, events.text], items: items.data.length };
  },
  errors: () => errors((name) => once.responses.create(asked(name)), describe),
  broken: (name) => raised(async () => pieces(await once.responses.create({ ...asked(name), stream: true }))),
  retry: async (name) => answer(await client.responses.create(asked(name))),
  abort: async (name) => {
    const stream = await client.responses.create({ ...asked(name), stream: true });
    return pieces(stream, (text) => text && stream.controller.abort());
  },
  silence: async (name) => pieces(await client.responses.create({ ...asked(name), stream: true })),
};

const prompted = (prompt) => ({ model: "m", prompt });
const completion = ({ choices, usage }) => ({
  text: choices[0].text,
  usage: [usage.prompt_tokens, usage.completion_tokens],
});

async function completionPieces(stream, each = () => {}) {
  let text = "", usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.text ?? "";
    if (chunk.usage) usage = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
    each(text);
  }
  return { text, usage };
}

const completions = {
  whole: async (name) => completion(await client.completions.create(prompted(name))),
  stream: async (name) => completionPieces(await client.completions.create({ ...prompted(name), ...streamed })),
  errors: () => errors((name) => once.completions.create(prompted(name)), describe),
  broken: (name) =>
    raised(async () => completionPieces(await once.completions.create({ ...prompted(name), stream: true }))),
  retry: async (name) => completion(await client.completions.create(prompted(name))),
  abort: async (name) => {
    const stream = await client.completions.create({ ...prompted(name), stream: true });
    return completionPieces(stream, (text) => text && stream.controller.abort());
  },
  silence: async (name) => completionPieces(await client.completions.create({ ...prompted(name), ...streamed })),
};

await run({ chat, responses, completions }[process.argv[2]]);
