// AG-UI's clients, as other people wrote them, and what they hold at the end. The snippets of docs/ag-ui.md lie beside
// this file's packages (node_modules/.ag-ui-*.mjs).
import { HttpAgent } from "@ag-ui/client";

const snippet = (name) => import(new URL(`./node_modules/.ag-ui-${name}.mjs`, import.meta.url));
export const { resumingFetch } = await snippet("fetch");
export const { RunReader } = await snippet("reader");
const { chatOf } = await snippet("tanstack");

process.env.SUPPRESS_TRANSFORMATION_WARNINGS = "true";
process.on("unhandledRejection", () => {}); // HttpAgent leaves one behind where its connection is lost
console.error = console.warn = () => {}; // a run that fails is told in what the script prints

export const LOOK_UP = {
  name: "look_up",
  description: "Look something up.",
  parameters: { type: "object", properties: { query: { type: "string" } } },
};

/** An agent, and what its subscribers saw. */
export function agentOf(options) {
  const agent = new HttpAgent({ threadId: "thread", ...options });
  const seen = { types: [], errors: [], finished: [] };
  agent.subscribe({
    onEvent: ({ event }) => void seen.types.push(event.type),
    onRunErrorEvent: ({ event }) => void seen.errors.push([event.code, event.message]),
    onRunFinishedEvent: ({ event, outcome }) => void seen.finished.push([outcome, event.usage ?? null]),
  });
  return { agent, seen };
}

/** TanStack's client, with one tool that counts its calls. */
export function tanstackOf(url, options = {}, fetchClient = undefined) {
  const seen = { asked: [], errors: [] };
  const tool = { __toolSide: "client", ...LOOK_UP, inputSchema: LOOK_UP.parameters };
  tool.execute = (asked) => {
    seen.asked.push(asked);
    return { found: true };
  };
  const onError = (error) => void seen.errors.push(error.message);
  const chat = chatOf(url, {}, { tools: [tool], threadId: "thread", onError, ...options }, { delayMs: 1, fetchClient });
  return { chat, seen };
}

/** Messages without what differs from run to run. */
export const plain = (messages) => JSON.parse(JSON.stringify(messages, (key, value) => (key === "createdAt" ? undefined : value)));
