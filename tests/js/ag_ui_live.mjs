// AG-UI's clients against a server: node ag_ui_live.mjs WHAT URLS MODEL PROMPT [RUN ID]. URLS are addresses of API
// processes with commas between, of which one may die. Out: JSON, what the client saw and holds.
import { agentOf, LOOK_UP, plain, resumingFetch, RunReader, tanstackOf } from "./ag_ui_clients.mjs";

const [what, urls, model, prompt, runId] = process.argv.slice(2);
const bases = urls.split(",");
const forwardedProps = { model };
const user = { id: "user-1", role: "user", content: prompt };

let calls = 0;
/** From one address to the next with each call. */
const anyOf = (url, init) => fetch(String(url).replace(bases[0], bases[calls++ % bases.length]), init);

/** Run until there is no tool to be run. */
async function toolLoop(agent, id) {
  const asked = [];
  for (let run = 0; run < 4; run++) {
    await agent.runAgent({ tools: [LOOK_UP], forwardedProps, ...(run || !id ? {} : { runId: id }) });
    const last = agent.messages.at(-1);
    if (!last.toolCalls?.length) break;
    for (const call of last.toolCalls) {
      asked.push(JSON.parse(call.function.arguments));
      agent.addMessage({ id: `result-${call.id}`, role: "tool", toolCallId: call.id, content: "found" });
    }
  }
  return asked;
}

const says = {
  async agent() {
    const { agent, seen } = agentOf({ url: `${bases[0]}/ag-ui`, initialMessages: [user] });
    const asked = await toolLoop(agent, runId).catch((error) => ({ status: error.status, payload: error.payload, message: error.message }));
    return { asked, messages: plain(agent.messages), ...seen };
  },
  async fetch() {
    const options = { url: `${bases[0]}/ag-ui`, initialMessages: [user], fetch: resumingFetch({ fetch: anyOf, waitMs: 100 }) };
    const { agent, seen } = agentOf(options);
    const asked = await toolLoop(agent, runId).catch((error) => String(error));
    return { asked, messages: plain(agent.messages), calls, ...seen };
  },
  async reload() {
    const { agent, seen } = agentOf({ url: "" });
    const reader = new RunReader({ url: `${bases[0]}/ag-ui/${runId}`, threadId: "thread", initialMessages: [user] });
    reader.subscribers = agent.subscribers;
    await reader.runAgent();
    return { messages: plain(reader.messages), ...seen };
  },
  async tanstack() {
    const { chat, seen } = tanstackOf(bases[0], { forwardedProps }, anyOf);
    await chat.sendMessage(prompt);
    return { messages: plain(chat.getMessages()), calls, ...seen };
  },
  async join() {
    const { fetchServerSentEvents, StreamProcessor } = await import("@tanstack/ai-client");
    const processor = new StreamProcessor();
    const chunks = fetchServerSentEvents(`${bases[0]}/ag-ui`).joinRun(runId);
    for await (const chunk of chunks) processor.processChunk(chunk);
    return { messages: plain(processor.getMessages()) };
  },
};
process.stdout.write(JSON.stringify(await says[what]()), () => process.exit(0));
