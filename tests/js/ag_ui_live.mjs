// AG-UI's clients against a server, in scenarios: {urls, model, prompt, runId?}. `urls` are addresses of API processes,
// of which one may die. Out: what the client saw and holds.
import { agentOf, LOOK_UP, plain, resumingFetch, RunReader, tanstackOf } from "./ag_ui_clients.mjs";
import { serve } from "./scenarios.mjs";

/** A fetch that goes from one address to the next with each call, and counts them. */
function anyOf(bases) {
  const said = { calls: 0 };
  said.fetch = (url, init) => fetch(String(url).replace(bases[0], bases[said.calls++ % bases.length]), init);
  return said;
}

const asUser = (prompt) => [{ id: "user-1", role: "user", content: prompt }];

/** Run until there is no tool to be run. */
async function toolLoop(agent, { model, runId: id }) {
  const asked = [];
  for (let run = 0; run < 4; run++) {
    await agent.runAgent({ tools: [LOOK_UP], forwardedProps: { model }, ...(run || !id ? {} : { runId: id }) });
    const last = agent.messages.at(-1);
    if (!last.toolCalls?.length) break;
    for (const call of last.toolCalls) {
      asked.push(JSON.parse(call.function.arguments));
      agent.addMessage({ id: `result-${call.id}`, role: "tool", toolCallId: call.id, content: "found" });
    }
  }
  return asked;
}

await serve({
  async agent(given) {
    const { agent, seen } = agentOf({ url: `${given.urls[0]}/ag-ui`, initialMessages: asUser(given.prompt) });
    const refused = ({ status, payload, message }) => ({ status, payload, message });
    const asked = await toolLoop(agent, given).catch(refused);
    return { asked, messages: plain(agent.messages), ...seen };
  },
  async fetch(given) {
    const any = anyOf(given.urls);
    const { agent, seen } = agentOf({
      url: `${given.urls[0]}/ag-ui`,
      initialMessages: asUser(given.prompt),
      fetch: resumingFetch({ fetch: any.fetch, waitMs: 100 }),
    });
    const asked = await toolLoop(agent, given).catch((error) => String(error));
    return { asked, messages: plain(agent.messages), calls: any.calls, ...seen };
  },
  async reload({ urls, prompt, runId }) {
    const { agent, seen } = agentOf({ url: "" });
    const reader = new RunReader({ url: `${urls[0]}/ag-ui/${runId}`, threadId: "thread", initialMessages: asUser(prompt) });
    reader.subscribers = agent.subscribers;
    await reader.runAgent();
    return { messages: plain(reader.messages), ...seen };
  },
  async tanstack({ urls, model, prompt }) {
    const any = anyOf(urls);
    const { chat, seen } = tanstackOf(urls[0], { forwardedProps: { model } }, any.fetch);
    await chat.sendMessage(prompt);
    return { messages: plain(chat.getMessages()), calls: any.calls, ...seen };
  },
  async join({ urls, runId }) {
    const { fetchServerSentEvents, StreamProcessor } = await import("@tanstack/ai-client");
    const processor = new StreamProcessor();
    const chunks = fetchServerSentEvents(`${urls[0]}/ag-ui`).joinRun(runId);
    for await (const chunk of chunks) processor.processChunk(chunk);
    return { messages: plain(processor.getMessages()) };
  },
});
