// What the programs share. A scenario's name is the prompt: by it, the model knows what to answer (see model.py).

export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=";
export const STATUSES = [400, 401, 403, 404, 409, 422, 429, 500, 503, 529];
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const sunny = ({ city }) => `sun in ${city}`;

// Runs the scenarios in their order, and prints one line of JSON for each.
export async function run(scenarios) {
  for (const [scenario, play] of Object.entries(scenarios)) {
    let line;
    try {
      line = { scenario, result: await play(scenario) };
    } catch (error) {
      line = { scenario, error: String(error?.stack ?? error) };
    }
    console.log(JSON.stringify(line));
  }
}

// The errors that an SDK raises for each status: what `describe` says of them.
export async function errors(ask, describe) {
  const seen = [];
  for (const status of STATUSES) {
    try {
      await ask(`error ${status}`);
      seen.push("none");
    } catch (error) {
      seen.push(describe(error));
    }
  }
  return seen;
}

// What a stream that breaks in the middle raises.
export async function raised(play) {
  try {
    await play();
  } catch (error) {
    return { raised: true, reason: String(error.message ?? error).includes("overloaded") };
  }
  return { raised: false, reason: false };
}
