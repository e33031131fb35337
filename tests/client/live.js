// The client against real processes: every case is `[name, async (context) => …]` with
//
// - `client`: the module under test; `baseUrl`: the API, `keyedUrl` and `key`: one that wants a key, whose read
//   tokens live for a second;
// - `run`: a word that stands before the names of this run's scripts, for the provider counts calls by name;
// - `control(command, argument)`: what the test run does to the processes (see tests/e2e/test_client.py).
//
// A prompt is a script of the provider, and what it will say is `await control("text", script)`.

import { check, refused, same } from "./sse.js";

const NUMBERS = /^([0-9]+)-([0-9]+)$/;

/** Events' ids only grow. */
function checkOrder(ids) {
  ids.reduce((before, id) => {
    const [, epoch, n] = NUMBERS.exec(id).map(Number);
    check(epoch > before[0] || (epoch === before[0] && n > before[1]), `${id} came behind ${before.join("-")}`);
    return [epoch, n];
  }, [0, -1]);
}

/** A stream of this script, read with what a page would show by callbacks alone. */
function show({ client, baseUrl, run }, { name, ...rest }, options = {}) {
  const shown = { text: "", restarts: 0, ids: [], types: [] };
  const server = new client.Headrace({ baseUrl, ...options.server });
  const stream = server.stream(JSON.stringify({ name: `${run}-${name}`, ...rest }), {
    maxDelayMs: 1_000,
    maxReconnectAttempts: 20,
    ...options,
    server: undefined,
    onMessage: (text) => (shown.text += text),
    onRestart: (text) => {
      shown.text = text;
      shown.restarts += 1;
    },
    onEvent: ({ id, type }) => {
      if (id && type !== "snapshot") shown.ids.push(id);
      shown.types.push(type);
    },
  });
  return { stream, shown, server };
}

async function until(condition, what) {
  for (let n = 0; n < 3_000; n += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain for ${what}`);
}

/** Cases that play with the processes: one behind the other, before all others. */
export const alone = [
  [
    "an API process that is killed and started again under a reader costs no token and doubles none",
    async (context) => {
      const script = { name: "killed", tokens: 130, interval_ms: 5, hang_after: 60, seed: 3 };
      const { stream, shown } = show(context, script);
      await until(() => shown.text.length > 30, "the first words");
      await context.control("restart_api");
      check(stream.status === "running", "the answer was over before the process was killed");
      await context.control("release", `${context.run}-killed`);
      const result = await stream.finished;
      const text = await context.control("text", script);
      same([result.text, shown.text], [text, text]);
      same([result.status, shown.restarts, result.usage.output_tokens], ["done", 0, 130]);
      checkOrder(shown.ids);
      const { tokens, tokensPerSecond, firstTokenMs, attempt } = stream.progress();
      check(tokens === 130 && tokensPerSecond > 5 && firstTokenMs >= 0 && attempt === 1, JSON.stringify(stream.progress()));
    },
  ],
];

/** Cases that may run at the same time. */
export const cases = [
  [
    "a connection that is cut within events, again and again, is mended",
    async (context) => {
      const script = { name: "cut", tokens: 150, interval_ms: 15, seed: 4 };
      const server = { fetch: cutting(700) };
      const { stream, shown } = show(context, script, { server });
      const result = await stream.finished;
      check(server.fetch.cuts() > 2, "nothing was cut");
      const text = await context.control("text", script);
      same([result.text, shown.text, shown.restarts], [text, text, 0]);
      checkOrder(shown.ids);
    },
  ],
  [
    "a create whose reply is lost makes one stream",
    async (context) => {
      const script = { name: "lost-reply", tokens: 5 };
      const seen = [];
      const losing = async (url, init) => {
        const response = await fetch(url, init);
        if (init.method === "POST") seen.push((await response.clone().json()).id);
        if (seen.length === 1 && init.method === "POST") throw new TypeError("the reply was lost");
        return response;
      };
      const { stream } = show(context, script, { server: { fetch: losing } });
      same((await stream.finished).text, await context.control("text", script));
      same([seen.length, seen[0], await context.control("calls", `${context.run}-lost-reply`)], [2, seen[1], 1]);
    },
  ],
  [
    "a provider that is cut leads to a restart, and the text is the second one's",
    async (context) => {
      const script = { name: "cut-provider", tokens: 30, numbered: true, interval_ms: 10, cut_after: 12, fail_times: 1 };
      const { stream, shown } = show(context, script, { on_failure: "restart" });
      const result = await stream.finished;
      same(result.text.slice(0, 3), "[2]");
      same([shown.text, shown.restarts, result.attempt], [result.text, 1, 2]);
    },
  ],
  [
    "a place that was trimmed away leads to a snapshot; callbacks get the piece that was missed",
    async (context) => {
      const script = { name: "trimmed", tokens: 600, interval_ms: 1, seed: 5 };
      const { stream, server } = show(context, script);
      await stream.finished;
      const text = await context.control("text", script);
      for (const [known, restarts] of [[text.slice(0, 40), 0], ["something else", 1]]) {
        const shown = { text: known, restarts: 0, types: [] };
        const again = server.resume(stream.id, {
          lastEventId: "1-1",
          text: known,
          onMessage: (piece) => (shown.text += piece),
          onRestart: (whole) => Object.assign(shown, { text: whole, restarts: shown.restarts + 1 }),
          onEvent: ({ type }) => shown.types.push(type),
        });
        const result = await again.finished;
        same([result.text, shown.text, shown.restarts, shown.types[0]], [text, text, restarts, "snapshot"]);
      }
    },
  ],
  [
    "a page that reloads reads on from its place, or from the beginning",
    async (context) => {
      const script = { name: "reloaded", tokens: 120, interval_ms: 5, hang_after: 60, seed: 6 };
      const { stream, server } = show(context, script);
      await until(() => stream.text.length > 30, "the first words");
      stream.close();
      const { id, text, lastEventId } = stream;
      same(stream.status, "detached");
      const whole = await context.control("text", script);
      const again = [server.resume(id), server.resume(`/v1/streams/${id}/events`, { lastEventId, text })];
      await context.control("release", `${context.run}-reloaded`);
      const results = await Promise.all(again.map((one) => one.finished));
      same(results.map((result) => result.text), [whole, whole]);
      const end = await server.resume(id, { lastEventId: (await server.record(id)).last_event_id }).finished;
      same([end.status, end.text], ["done", whole]);
    },
  ],
  [
    "stop() ends the generation at the provider; an abort leaves it alone",
    async (context) => {
      const script = { name: "stopped", tokens: 5_000, interval_ms: 20 };
      const abort = new AbortController();
      const { stream, shown, server } = show(context, script);
      await until(() => shown.text, "the first word");
      const beside = server.resume(stream.id, { signal: abort.signal });
      await until(() => beside.text, "the second reader's first word");
      abort.abort();
      same((await refused(beside.finished)).name, "AbortError");
      const before = stream.text.length;
      await until(() => stream.text.length > before, "a word after the abort");
      await stream.stop("enough");
      const result = await stream.finished;
      same([result.status, result.text], ["cancelled", shown.text]);
      await until(() => context.control("closed_by", `${context.run}-stopped`).then((by) => by === "client"), "the provider's end");
      const hurried = show(context, { name: "stopped-at-once", tokens: 5_000, interval_ms: 20 });
      await hurried.stream.stop();
      same((await hurried.stream.finished).status, "cancelled");
    },
  ],
  [
    "events come by an async iterator, the text by another",
    async (context) => {
      const script = { name: "iterated", tokens: 30, interval_ms: 5, reasoning_tokens: 2, tool_call: true, seed: 7 };
      const { stream } = show(context, script);
      let last = "";
      const texts = (async () => {
        for await (const text of stream.texts()) {
          check(text.startsWith(last), "the text went back");
          last = text;
        }
      })();
      let text = "";
      const types = new Set();
      for await (const { type, data } of stream) {
        types.add(type);
        text += data.text ?? "";
      }
      await texts;
      const wanted = await context.control("text", script);
      same([text, last, [...types].at(-1)], [wanted, wanted, "done"]);
      same([stream.reasoning, stream.toolCalls[0].name], [" thought 0 thought 1", "look_up"]);
    },
  ],
  [
    "behind a key a link without it reads, and an expired one is renewed",
    async ({ client, keyedUrl: baseUrl, key, control }) => {
      const script = { name: "keyed", tokens: 10, seed: 8 };
      const keyless = new client.Headrace({ baseUrl });
      same((await refused(keyless.stream("?").finished)).code, "key_missing");
      const server = new client.Headrace({ baseUrl, key });
      const { id, events_url: link } = await server.create({ prompt: JSON.stringify(script) });
      const text = await control("text", script);
      same((await keyless.resume(link).finished).text, text);
      await new Promise((resolve) => setTimeout(resolve, 3_100));
      same((await refused(keyless.resume(link).finished)).code, "token_expired");
      const renewed = server.resume(link);
      same((await renewed.finished).text, text);
      check(renewed.eventsUrl !== link && renewed.id === id, "the link was not renewed");
      const own = keyless.resume(link, { renew: async () => (await server.links(id)).events_url });
      same((await own.finished).text, text);
    },
  ],
  [
    "a server that nobody ever met ends with an error after so many tries",
    async ({ client, control }) => {
      const baseUrl = await control("nobody");
      const options = { maxReconnectAttempts: 2, maxDelayMs: 50 };
      let told = null;
      const error = await refused(new client.Headrace({ baseUrl }).stream("?", { ...options, onError: (e) => (told = e) }).finished);
      same([error.code, error === told], ["unreachable", true]);
    },
  ],
];

/** A `fetch` whose event streams break after so many bytes. */
function cutting(most) {
  let cuts = 0;
  const cut = async (url, init) => {
    const response = await fetch(url, init);
    if (!url.includes("/events") || !response.body) return response;
    let room = most;
    const body = response.body.pipeThrough(
      new TransformStream({
        transform(chunk, controller) {
          controller.enqueue(chunk.subarray(0, room));
          room -= chunk.length;
          if (room > 0) return;
          cuts += 1;
          controller.error(new TypeError("cut"));
        },
      }),
    );
    return new Response(body, { status: response.status, headers: response.headers });
  };
  return Object.assign(cut, { cuts: () => cuts });
}
