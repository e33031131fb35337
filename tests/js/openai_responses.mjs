// Responses by OpenAI's library: node openai_responses.mjs URL MODEL SCRIPT. Prints what it saw, as JSON.
import OpenAI from "openai";

const [baseURL, model, input] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0, timeout: 60_000 });
const parameters = { type: "object", properties: { query: { type: "string" } } };
const asked = { model, input, tools: [{ type: "function", name: "look_up", parameters, strict: false }] };
const told = {};

/** What every reader of one response must agree upon. */
function bare(response) {
  const { output_text, output_parsed, ...rest } = response;
  const output = response.output.map(({ parsed_arguments, ...item }) => ({
    ...item,
    ...(item.content && { content: item.content.map(({ parsed, ...part }) => part) }),
  }));
  return JSON.stringify({ ...rest, output }, (_, value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort())
      : value,
  );
}

try {
  const stream = client.responses.stream(asked);
  const events = [];
  for await (const event of stream) events.push(event);
  const last = events.at(-1);
  const id = last.response.id;
  told.types = events.map((event) => event.type);
  told.numbers = events.every((event, n) => event.sequence_number === n);
  told.text = (await stream.finalResponse()).output_text;
  const whole = bare(await client.responses.retrieve(id));
  told.same = whole === bare(last.response) && whole === bare(await stream.finalResponse());
  told.helper = [];
  told.resumed = [];
  for (let number = 0; number < events.length; number++) {
    const again = client.responses.stream({ response_id: id, starting_after: number });
    const seen = [];
    for await (const event of again) seen.push(event.sequence_number);
    told.helper.push(
      seen.length === events.length - 1 - number && bare(await again.finalResponse()) === whole,
    );
    const rest = [];
    for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: number }))
      rest.push(event.sequence_number);
    told.resumed.push(rest.length === seen.length && rest.every((one, n) => one === number + 1 + n));
  }
  const plain = await client.responses.create(asked);
  told.plain = [plain.output_text, plain.status];
} catch (error) {
  told.error = [error.constructor.name, error.status ?? null, error.code ?? null, String(error.message)];
}
console.log(JSON.stringify(told));
