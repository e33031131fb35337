// What OpenAI's library makes of events: node responses_reducer.mjs FILE, a JSON list of SSE bodies. Prints the response
// at the end of each, and what it had added up in front of its last event, as JSON.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const bodies = JSON.parse(readFileSync(process.argv[2], "utf8"));
const client = new OpenAI({
  baseURL: "http://127.0.0.1/v1",
  apiKey: "any",
  maxRetries: 0,
  fetch: async (url) =>
    new Response(bodies[Number(new URL(url).pathname.split("/").pop())], {
      headers: { "content-type": "text/event-stream" },
    }),
});

const told = [];
for (let number = 0; number < bodies.length; number++) {
  const snapshots = {};
  const stream = client.responses.stream({ response_id: String(number) });
  for (const kind of ["response.output_text.delta", "response.function_call_arguments.delta"])
    stream.on(kind, (event) => (snapshots[event.item_id] = event.snapshot));
  const { output } = await stream.finalResponse();
  for (const item of output) {
    delete item.parsed_arguments;
    for (const part of item.content ?? []) delete part.parsed;
  }
  told.push({ output, snapshots });
}
console.log(JSON.stringify(told));
