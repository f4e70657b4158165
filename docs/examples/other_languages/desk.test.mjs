import assert from "node:assert/strict";
import { before, test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI(); // its URL and key are in the environment
const ask = (content, more) =>
  client.chat.completions.create({
    model: "gpt-5-mini",
    messages: [{ role: "user", content }],
    ...more,
  });

const { TRIOCEPT_URL, TRIOCEPT_API_KEY } = process.env;

before(async () => {
  // Begin the script anew, so that `triocept serve` is good for any number of runs.
  const headers = { authorization: `Bearer ${TRIOCEPT_API_KEY}` };
  const reset = await fetch(`${TRIOCEPT_URL}/reset`, { method: "POST", headers });
  assert.equal(reset.status, 200);
});

test("a question is answered", async () => {
  const completion = await ask("When do you open?");
  assert.equal(completion.choices[0].message.content, "At nine.");
});

test("a tool is called", async () => {
  const tool = { type: "function", function: { name: "find_order" } };
  const completion = await ask("Where is A-17?", { tools: [tool] });
  const [call] = completion.choices[0].message.tool_calls;
  assert.deepEqual(JSON.parse(call.function.arguments), { number: "A-17" });
});

test("a letter comes piece by piece", async () => {
  const pieces = [];
  for await (const chunk of await ask("Write a letter.", { stream: true })) {
    pieces.push(chunk.choices[0]?.delta.content);
  }
  assert.deepEqual(pieces.filter(Boolean), ["Dear ", "customer"]);
});

test("a busy model is asked again", async () => {
  const completion = await ask("When do you close?");
  assert.equal(completion.choices[0].message.content, "At five.");
});
