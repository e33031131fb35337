// Cuts an answer at every event, and lets AG-UI's clients come back, as a scenario. In: {"agui": Answer, "tanstack":
// Answer}, Answer = {"whole": SSE, "cuts": [{"prefix": SSE, "last": id, "rest": SSE}]}. Out: the messages of each
// client, uncut and after each cut.
import { agentOf, plain, resumingFetch, tanstackOf } from "./ag_ui_clients.mjs";
import { serve } from "./scenarios.mjs";

const headers = { "Content-Type": "text/event-stream" };

function whole(sse) {
  return new Response(sse, { headers });
}

/** A body that ends as a lost connection does, after so long. (HttpAgent drops what it has not applied yet.) */
function broken(sse, afterMs = 0) {
  const body = new ReadableStream({
    start(to) {
      if (sse) to.enqueue(new TextEncoder().encode(sse));
    },
    async pull(to) {
      if (afterMs) await new Promise((resolve) => setTimeout(resolve, afterMs));
      to.error(new TypeError("terminated"));
    },
  });
  return new Response(body, { headers });
}

/** A fetch that loses the first connection, and checks what the client comes back with. */
function losing(cut, end = broken) {
  let calls = 0;
  return async (url, init) => {
    calls += 1;
    if (calls === 1) return end(cut.prefix);
    const sent = new Headers(init.headers).get("Last-Event-ID") ?? "";
    if (calls > 2 || sent !== cut.last) throw new Error(`call ${calls} came back with ${sent}, and not ${cut.last}`);
    return whole(cut.rest);
  };
}

async function byHand(fetches) {
  let call = 0;
  const { agent, seen } = agentOf({ url: "http://x/ag-ui", fetch: async () => fetches[call++]() });
  for (const _ of fetches) await agent.runAgent({ runId: "run" }).catch((error) => seen.errors.push(String(error)));
  return { messages: plain(agent.messages), finished: seen.finished };
}

async function byFetch(fetch) {
  const { agent, seen } = agentOf({ url: "http://x/ag-ui", fetch: resumingFetch({ waitMs: 0, fetch }) });
  await agent.runAgent({ runId: "run" }).catch((error) => seen.errors.push(String(error)));
  return { messages: plain(agent.messages), finished: seen.finished, errors: seen.errors };
}

async function byTanStack(fetchClient) {
  const { chat, seen } = tanstackOf("http://x", {}, fetchClient);
  await chat.sendMessage("hello");
  const messages = plain(chat.getMessages()).map(({ id, ...rest }) => (rest.role === "user" ? rest : { id, ...rest }));
  return { messages, asked: seen.asked, errors: seen.errors };
}

/** The first run's answer; a second run, with the tools' results, says that this is the end. */
function answering(sse, first = async () => whole(sse)) {
  return async (url, init) => {
    const asked = JSON.parse(init.body);
    if (asked.messages.at(-1).role !== "tool") return first(url, init);
    const run = JSON.stringify({ threadId: "thread", runId: asked.runId });
    return whole(`data: {"type":"RUN_STARTED",${run.slice(1)}\n\ndata: {"type":"RUN_FINISHED",${run.slice(1)}\n\n`);
  };
}

await serve({
  async cuts(told) {
    const out = { hand: [], fetch: [], clean: [], tanstack: [] };
    out.whole = await byHand([() => whole(told.agui.whole)]);
    out.wholeTanStack = await byTanStack(answering(told.tanstack.whole));
    for (const cut of told.agui.cuts) {
      out.hand.push(await byHand([() => broken(cut.prefix, 10), () => whole(cut.rest)]));
      if (cut.last) out.fetch.push(await byFetch(losing(cut)));
      if (cut.last) out.clean.push(await byFetch(losing(cut, whole)));
    }
    for (const cut of told.tanstack.cuts) if (cut.last) out.tanstack.push(await byTanStack(answering("", losing(cut))));
    return out;
  },
});
