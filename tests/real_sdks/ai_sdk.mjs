// Vercel's AI SDK with each provider, unchanged: `node ai_sdk.mjs chat|responses|anthropic|compatible|google`.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { PIXEL, errors, raised, run, sunny } from "./scenarios.mjs";

const { OPENAI_BASE_URL, OPENAI_API_KEY: apiKey, ANTHROPIC_BASE_URL, GOOGLE_GEMINI_BASE_URL } = process.env;
const openai = () => createOpenAI({ baseURL: OPENAI_BASE_URL, apiKey });
const model = {
  chat: () => openai().chat("m"),
  responses: () => openai().responses("m"),
  anthropic: () => createAnthropic({ baseURL: `${ANTHROPIC_BASE_URL}/v1`, apiKey })("claude-m"),
  compatible: () =>
    createOpenAICompatible({
      name: "triocept",
      baseURL: OPENAI_BASE_URL,
      apiKey,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })("m"),
  google: () => createGoogleGenerativeAI({ baseURL: `${GOOGLE_GEMINI_BASE_URL}/v1beta`, apiKey })("m"),
}[process.argv[2]]();

const said = (prompt) => ({ model, prompt, maxOutputTokens: 1000 });
const usageOf = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];
const answer = ({ text, usage }) => ({ text, usage: usageOf(usage) });
const describe = (error) => error.statusCode;
const silent = { onError: () => {} }; // the errors of a stream are thrown by us

async function pieces(stream, each = () => {}) {
  let text = "", usage;
  for await (const part of stream.fullStream) {
    if (part.type === "text-delta") text += part.text;
    if (part.type === "finish") usage = usageOf(part.totalUsage);
    if (part.type === "error") throw part.error;
    each(text);
  }
  return { text, usage };
}

const loop = {
  tools: { weather: tool({ description: "The weather.", inputSchema: z.object({ city: z.string() }), execute: sunny }) },
  stopWhen: stepCountIs(5),
};
const town = { output: Output.object({ schema: z.object({ city: z.string(), people: z.number() }) }) };

await run({
  whole: async (name) => answer(await generateText(said(name))),
  stream: async (name) => pieces(streamText(said(name))),
  reasoning: async (name) => {
    const { reasoningText, text } = await generateText(said(name));
    return { reasoning: reasoningText, text };
  },
  "reasoning streamed": async (name) => {
    const stream = streamText(said(name));
    return { reasoning: await stream.reasoningText, text: await stream.text };
  },
  image: async (name) => {
    const content = [{ type: "text", text: name }, { type: "image", image: PIXEL, mediaType: "image/png" }];
    return answer(await generateText({ ...said(), messages: [{ role: "user", content }] }));
  },
  tools: async (name) => ({ text: (await generateText({ ...said(name), ...loop })).text }),
  "tools streamed": async (name) => ({ text: await streamText({ ...said(name), ...loop }).text }),
  object: async (name) => (await generateText({ ...said(name), ...town })).output,
  "object streamed": async (name) => {
    const { partialOutputStream } = streamText({ ...said(name), ...town });
    let last;
    for await (const partial of partialOutputStream) last = partial;
    return last;
  },
  errors: () => errors((name) => generateText({ ...said(name), maxRetries: 0 }), describe),
  broken: (name) => raised(() => pieces(streamText({ ...said(name), maxRetries: 0, ...silent }))),
  retry: async (name) => answer(await generateText(said(name))),
  abort: async (name) => {
    const controller = new AbortController();
    const stream = streamText({ ...said(name), abortSignal: controller.signal });
    const { text } = await pieces(stream, (text) => text && controller.abort());
    return { text };
  },
  silence: async (name) => pieces(streamText(said(name))),
});
