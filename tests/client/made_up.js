// What the client makes of servers that answer anything: every case is `[name, async (client) => …]`, where `client` is
// the module under test. No server, no clock but short pauses.

import { check, CREATED, DONE, refused, same, scripted, sse } from "./sse.js";

const bytesOf = (text) => new TextEncoder().encode(text);
const TRAPS =
  "\uFEFF: a comment\nretry: 250\nid: 1-0\nevent: started\ndata: {\"attempt\":1}\n\n" +
  "id: 1-1\r\ndata: {\"text\":\"naïve 🌊\"}\r\n\r\nid: 1-2\rdata: one\rdata:two\rdata:  three\r\r" +
  "data\n\n\n:\ndata: kept id\n\nevent: nothing\n\nid: nul\0\nretry: 7x\ndata: last\nfoo: bar\n\ndata: cut off";
const WANTED = [
  ["started", '{"attempt":1}', "1-0", true],
  ["message", '{"text":"naïve 🌊"}', "1-1", true],
  ["message", "one\ntwo\n three", "1-2", true],
  ["message", "", "1-2", false],
  ["message", "kept id", "1-2", false],
  ["message", "last", "1-2", false],
];

function parse(SseParser, reads) {
  const parser = new SseParser();
  const events = reads.flatMap((read) => parser.feed(read));
  same(parser.retryMs, 250, "retry");
  return events.map(({ type, data, id, hasId }) => [type, data, id, hasId]);
}

/** A client of a scripted server, and options that hurry. */
function hurried({ Headrace }, answers, options = {}) {
  const fetch = scripted(...answers);
  const told = [];
  const tell = (name) => (value) => told.push([name, value]);
  const callbacks = { onMessage: tell("message"), onRestart: tell("restart"), onDone: tell("done"), onError: tell("error") };
  const server = new Headrace({ baseUrl: "http://made.up/", fetch, ...options });
  return { fetch, told, callbacks, server };
}

const begun = "retry: 5\n" + sse(["1-0", "started", { attempt: 1, model: "m/m" }], ["1-1", "message", { text: "a" }]);
const names = (told) => told.map(([name]) => name);

export const cases = [
  [
    "the parser gives the same events at every split point, and byte by byte",
    ({ SseParser }) => {
      const bytes = bytesOf(TRAPS);
      same(parse(SseParser, [bytes]), WANTED);
      for (let cut = 0; cut <= bytes.length; cut += 1) same(parse(SseParser, [bytes.slice(0, cut), bytes.slice(cut)]), WANTED, `cut at ${cut}`);
      same(parse(SseParser, Array.from(bytes, (byte) => Uint8Array.of(byte))), WANTED, "byte by byte");
    },
  ],
  [
    "the parser refuses an event without end",
    ({ SseParser }) => {
      for (const piece of ["x".repeat(60), "data: 12345678\n"]) {
        const parser = new SseParser(100);
        let error;
        try {
          for (let n = 0; n < 100; n += 1) parser.feed(bytesOf(piece));
        } catch (thrown) {
          error = thrown;
        }
        same(error?.code, "event_too_large");
      }
      const parser = new SseParser(100);
      for (let n = 0; n < 100; n += 1) parser.feed(bytesOf("data: 12345678\n\n"));
    },
  ],
  [
    "text, reasoning, tool calls and what only the provider knows add up",
    async (client) => {
      const deltas = [
        { reasoning: "hm" },
        { reasoning: "m" },
        { text: "a" },
        { provider: { type: "citation", data: 1 } },
        { tool_call: { index: 0, id: "c", name: "look_up", arguments: "{" } },
        { tool_call: { index: 1, id: "d", name: "other" } },
        { tool_call: { index: 0, arguments: "}" } },
        { tool_call: { index: 1, id: "e", name: "a third one" } },
        { tool_call: { index: 1, arguments: "[]" } },
        { text: "b" },
        { provider: { type: "search", data: null } },
      ].map((data, n) => [`1-${n + 1}`, "message", data]);
      const { server } = hurried(client, [CREATED, sse(...deltas, ["1-20", "done", DONE])]);
      const result = await server.stream("?").finished;
      same(result.text, "ab");
      same(result.reasoning, "hmm");
      same(result.toolCalls, [
        { index: 0, id: "c", name: "look_up", arguments: "{}" },
        { index: 1, id: "d", name: "other", arguments: "" },
        { index: 1, id: "e", name: "a third one", arguments: "[]" },
      ]);
      same(result.provider, [{ type: "citation", data: 1 }, { type: "search", data: null }]);
      same([result.status, result.finishReason, result.usage.output_tokens], ["done", "stop", 3]);
    },
  ],
  [
    "what a snapshot tells is what its deltas told, and goes on from there",
    async (client) => {
      const parts = [{ type: "citation", data: 1 }, { type: "thinking", data: { signature: "S" } }];
      const said = { text: "a", tool_calls: [{ index: 0, id: "c", name: "f", arguments: "{" }], provider_parts: [parts[0]] };
      const more = [{ tool_call: { index: 0, arguments: "}" } }, { provider: parts[1] }, { text: "b" }];
      const body = sse(["1-9", "snapshot", said], ...more.map((data, n) => [`1-${n + 10}`, "message", data]), ["1-20", "done", DONE]);
      const { server } = hurried(client, [body]);
      const result = await server.resume("s1", { lastEventId: "1-2", text: "other" }).finished;
      same(result.text, "ab");
      same(result.toolCalls, [{ index: 0, id: "c", name: "f", arguments: "{}" }]);
      same(result.provider, parts);
    },
  ],
  [
    "a connection that ends is resumed behind the last event, and events that come twice count once",
    async (client) => {
      const more = sse(["1-1", "message", { text: "a" }], ["1-2", "message", { text: "b" }], ["1-10", "message", { text: "c" }]);
      const last = sse(["1-9", "message", { text: "old" }], ["1-11", "done", DONE]);
      const { fetch, told, callbacks, server } = hurried(client, [CREATED, begun, more, last]);
      const result = await server.stream("?", { ...callbacks, model: "m/m", max_tokens: 9, on_failure: "fail" }).finished;
      same(result.text, "abc");
      same(told.slice(0, -1), [["message", "a"], ["message", "b"], ["message", "c"]]);
      same(fetch.calls.map(({ headers }) => headers["Last-Event-ID"] ?? null), [null, null, "1-1", "1-10"]);
      same(fetch.calls[0].body, { model: "m/m", max_tokens: 9, on_failure: "fail", prompt: "?" });
      same(fetch.calls[1].url, "http://made.up/v1/streams/s1/events");
    },
  ],
  [
    "a restart drops the text, and says so only where something was said",
    async (client) => {
      const body = sse(
        ["1-0", "started", { attempt: 1 }],
        ["2-0", "started", { attempt: 2 }],
        ["2-1", "message", { text: "wrong" }],
        ["3-0", "restart", { attempt: 3 }],
        ["3-1", "message", { text: "right" }],
        ["4-0", "continued", { attempt: 4, after: "3-1" }],
        ["4-1", "message", { text: "!" }],
        ["4-2", "done", DONE],
      );
      const { told, callbacks, server } = hurried(client, [CREATED, body]);
      const result = await server.stream("?", callbacks).finished;
      same(told.slice(0, -1), [["message", "wrong"], ["restart", ""], ["message", "right"], ["message", "!"]]);
      same([result.text, result.attempt], ["right!", 4]);
    },
  ],
  [
    "a snapshot that goes on is a message, another one replaces, and the place goes back with it",
    async (client) => {
      const first = sse(["5-9", "snapshot", { text: "ab", attempt: 1 }], ["5-10", "message", { text: "c" }]);
      // The server lost what it said behind 5-4, and says other things under the ids that follow.
      const second = sse(["5-4", "snapshot", { text: "aX", attempt: 1 }], ["5-5", "message", { text: "Y" }], ["5-6", "done", DONE]);
      const { told, callbacks, server } = hurried(client, [CREATED, begun, first, second]);
      const result = await server.stream("?", callbacks).finished;
      same(told.slice(0, -1), [["message", "a"], ["message", "b"], ["message", "c"], ["restart", "aX"], ["message", "Y"]]);
      same(result.text, "aXY");
    },
  ],
  [
    "after maxReconnectAttempts tries in a row without an event there is an error, and an event counts anew",
    async (client) => {
      const away = new TypeError("fetch failed");
      const more = sse(["1-2", "message", { text: "b" }]);
      const { fetch, told, callbacks, server } = hurried(client, [CREATED, begun, [503, {}], more, [502, {}], away]);
      const error = await refused(server.stream("?", { ...callbacks, maxReconnectAttempts: 2 }).finished);
      same([error.code, error.retryable, fetch.calls.length], ["connection_lost", true, 6]);
      same(names(told), ["message", "message", "error"]);
      check(told.at(-1)[1] === error, "onError got another error");
    },
  ],
  [
    "a server that never answered is unreachable, not lost",
    async (client) => {
      const away = new TypeError("fetch failed");
      const hurry = { maxReconnectAttempts: 1, maxDelayMs: 1 };
      for (const [answers, run] of [
        [[away, away], ({ server, callbacks }) => server.stream("?", { ...callbacks, ...hurry })],
        [[away, away], ({ server, callbacks }) => server.resume("s1", { ...callbacks, ...hurry })],
      ]) {
        const made = hurried(client, answers);
        const error = await refused(run(made).finished);
        same([error.code, error.retryable, names(made.told), made.fetch.calls.length], ["unreachable", true, ["error"], 2]);
      }
      const met = hurried(client, [CREATED, away, away]);
      same((await refused(met.server.stream("?", hurry).finished)).code, "connection_lost");
    },
  ],
  [
    "an address where no server can be is an error at once",
    async ({ Headrace }) => {
      // On a page, an empty base is that page's own server.
      const bases = globalThis.location ? ["localhost:8000"] : ["", "localhost:8000", "//made.up"];
      for (const baseUrl of bases) {
        const told = [];
        const stream = new Headrace({ baseUrl }).stream("?", { onError: ({ code }) => told.push(code) });
        const error = await refused(stream.finished);
        same([error.code, error.retryable, told], ["no_base_url", false, ["no_base_url"]]);
        same((await refused(new Headrace({ baseUrl }).models())).code, "no_base_url");
      }
    },
  ],
  [
    "retry is honoured, and pauses grow behind it",
    async (client) => {
      const ask = "retry: 120\n:\n";
      const { fetch, server } = hurried(client, [CREATED, ask, ask, sse(["1-0", "done", DONE])]);
      await server.stream("?").finished;
      const [, first, second, third] = fetch.calls.map(({ at }) => at);
      check(second - first >= 119, `came back after ${second - first} ms`);
      check(third - second >= 239, `came back a second time after ${third - second} ms`);
      check(third - second < 1000, "waited as if the server had not said anything");
    },
  ],
  [
    "what stays wrong is an error at once, in the server's words",
    async (client) => {
      const problem = { code: "no_such_stream", detail: "There is no such stream.", title: "Not Found" };
      for (const [answers, code] of [
        [[CREATED, [404, problem]], "no_such_stream"],
        [[[422, { code: "unknown_model", detail: "No." }]], "unknown_model"],
        [[CREATED, [400, null]], "http_400"],
        [[CREATED, "data: {\n\n"], "bad_event"],
      ]) {
        const { fetch, told, callbacks, server } = hurried(client, answers);
        const error = await refused(server.stream("?", callbacks).finished);
        same([error.code, error.retryable, names(told), fetch.calls.length], [code, false, ["error"], answers.length]);
      }
    },
  ],
  [
    "a failed stream is an error with the event's code, and the last event of the iterator",
    async (client) => {
      const failed = { code: "provider_cut", message: "The provider closed the connection.", retryable: true };
      const { server } = hurried(client, [CREATED, begun + sse(["1-2", "failed", failed])]);
      const stream = server.stream("?");
      const types = [];
      for await (const { type } of stream) types.push(type);
      same(types, ["started", "message", "failed"]);
      const { code, message, retryable } = await refused(stream.finished);
      same({ code, message, retryable }, failed);
      const drain = async () => {
        for await (const _ of stream.texts());
      };
      same((await refused(drain())).code, "provider_cut");
    },
  ],
  [
    "204 means that all was seen: the record tells the end, where it may be read",
    async (client) => {
      const parts = [{ type: "citation", data: 1 }];
      const record = { status: "done", model: "m/m", provider: "m", text: "abc", provider_parts: parts, finish_reason: "stop", attempt: 2 };
      const { fetch, told, callbacks, server } = hurried(client, [[204, null], [200, record]]);
      const result = await server.resume("s1", { ...callbacks, lastEventId: "1-9", text: "ab" }).finished;
      same([result.status, result.text, result.provider, result.attempt], ["done", "abc", parts, 2]);
      same(told[0], ["message", "c"]);
      same(fetch.calls[0].headers["Last-Event-ID"], "1-9");
      const stranger = hurried(client, [[204, null], [401, { code: "key_missing" }]]);
      same((await stranger.server.resume("s1", { lastEventId: "1-9", text: "ab" }).finished).status, "ended");
    },
  ],
  [
    "an expired token is renewed once, by the key or by the page's own way; the token stands in for the key",
    async (client) => {
      const expired = [401, { code: "token_expired", detail: "It has expired." }];
      const old = "/v1/streams/s1/events?token=old";
      const fresh = [200, { id: "s1", events_url: "/v1/streams/s1/events?token=new" }];
      const end = sse(["1-0", "done", DONE]);
      const keyed = hurried(client, [expired, fresh, end], { key: "hr_k" });
      await keyed.server.resume(old).finished;
      same(keyed.fetch.calls.map(({ url, headers }) => [url.slice(14), headers.Authorization ?? null]), [
        [old, null],
        ["/v1/streams/s1/token", "Bearer hr_k"],
        ["/v1/streams/s1/events?token=new", null],
      ]);
      const own = hurried(client, [expired, end]);
      await own.server.resume(old, { renew: async (id) => `/mine/${id}?token=2` }).finished;
      same(own.fetch.calls[1].url, "http://made.up/mine/s1?token=2");
      const keyless = hurried(client, [expired, [401, { code: "key_missing" }]]);
      same((await refused(keyless.server.resume(old).finished)).code, "token_expired");
      const twice = hurried(client, [expired, fresh, expired], { key: "hr_k" });
      same((await refused(twice.server.resume(old).finished)).code, "token_expired");
      const foreign = hurried(client, [end], { key: "hr_k" });
      await foreign.server.resume("http://made.up.example/v1/streams/s1/events").finished;
      same(foreign.fetch.calls[0].headers.Authorization ?? null, null, "the key went to another server");
    },
  ],
  [
    "a key's function is asked again for a key that was refused",
    async (client) => {
      const refusals = [];
      const key = async (refused) => (refused === undefined ? null : (refusals.push(refused), refusals.length < 3 ? `k${refusals.length}` : null));
      const no = [401, { code: "key_unknown", detail: "Not known." }];
      const { fetch, server } = hurried(client, [no, no, no], { key });
      const error = await refused(server.models());
      same([error.code, refusals], ["key_unknown", ["", "k1", "k2"]]);
      same(fetch.calls.map(({ headers }) => headers.Authorization ?? null), [null, "Bearer k1", "Bearer k2"]);
    },
  ],
  [
    "a create is repeated under one key, not before Retry-After",
    async (client) => {
      const busy = [429, { code: "busy", detail: "Later." }, { "retry-after": "2" }];
      const { fetch, server } = hurried(client, [busy, CREATED, sse(["1-0", "done", DONE])]);
      await server.stream("?").finished;
      const [first, second] = fetch.calls;
      check(second.at - first.at >= 1_999, `came back after ${second.at - first.at} ms`);
      check(first.headers["Idempotency-Key"]?.length === 32, "no key");
      same(first.headers["Idempotency-Key"], second.headers["Idempotency-Key"]);
      const long = hurried(client, [[429, { code: "busy" }, { "retry-after": "3600" }]]);
      same((await refused(long.server.stream("?").finished)).code, "busy");
    },
  ],
  [
    "Retry-After may be a date, and is read by the server's own clock",
    async (client) => {
      const now = Date.parse("2001-01-01T00:00:00Z");
      const headers = { date: new Date(now).toUTCString(), "retry-after": new Date(now + 2_000).toUTCString() };
      const { fetch, server } = hurried(client, [[503, { code: "away" }, headers], CREATED, sse(["1-0", "done", DONE])]);
      await server.stream("?").finished;
      const [first, second] = fetch.calls;
      check(second.at - first.at >= 1_999, `came back after ${second.at - first.at} ms`);
      const far = hurried(client, [[429, { code: "busy" }, { ...headers, "retry-after": new Date(now + 3_600_000).toUTCString() }]]);
      const error = await refused(far.server.stream("?").finished);
      same([error.code, error.retryAfterMs], ["busy", 3_600_000]);
      const past = hurried(client, [[404, { code: "gone" }, { "retry-after": "Mon, 01 Jan 2001 00:00:00 GMT" }], [404, { code: "gone" }, { "retry-after": "soon" }]]);
      same((await refused(past.server.models())).retryAfterMs, 0);
      same((await refused(past.server.models())).retryAfterMs, 0);
    },
  ],
  [
    "a server under a path gives links with that path or without it, and gets the key for both",
    async (client) => {
      const end = sse(["1-0", "done", DONE]);
      for (const events_url of ["/ai/v1/streams/s1/events", "/v1/streams/s1/events"]) {
        const { fetch, server } = hurried(client, [[202, { ...CREATED[1], events_url }], end], { baseUrl: "http://made.up/ai/", key: "hr_k" });
        await server.stream("?").finished;
        const wanted = ["http://made.up/ai/v1/streams", "http://made.up/ai/v1/streams/s1/events"];
        same(fetch.calls.map(({ url, headers }) => [url, headers.Authorization]), wanted.map((url) => [url, "Bearer hr_k"]));
        same(server.resolve(events_url), wanted[1]);
      }
    },
  ],
  [
    "the rate of an answer that came at once is counted from the start, and there is none where nothing can be measured",
    ({ tokensPerSecond }) => {
      const rate = (tokens, first_token_ms, total_ms) => tokensPerSecond(tokens, { queued_ms: 0, first_token_ms, total_ms });
      same([rate(101, 500, 2_500), rate(100, 1_999, 2_000), rate(100, 3, 9)], [50, 50, null]);
      same([rate(1, 500, 2_500), rate(null, 0, 900), tokensPerSecond(9, null)], [null, null, null]);
    },
  ],
  [
    "an abort detaches: nothing is called any more, and nothing is cancelled",
    async (client) => {
      const { fetch, told, callbacks, server } = hurried(client, [CREATED, { text: begun, hangs: true }]);
      const abort = new AbortController();
      const stream = server.stream("?", { ...callbacks, signal: abort.signal });
      const types = [];
      const error = await refused((async () => {
        for await (const { type } of stream) {
          types.push(type);
          if (type === "message") abort.abort();
        }
      })());
      same([error.name, stream.status, stream.text, types], ["AbortError", "detached", "a", ["started", "message"]]);
      same((await refused(stream.finished)).name, "AbortError");
      same(names(told), ["message"]);
      same(fetch.calls.map(({ method }) => method), ["POST", "GET"]);
      const closing = hurried(client, [begun]);
      const after = [];
      const beside = closing.server.resume("s1", {
        onMessage: (_, stream) => stream.close(),
        onProgress: ({ status }) => status === "detached" && after.push("progress"),
        onEvent: ({ type }) => type === "message" && after.push("event"),
      });
      await refused(beside.finished);
      same([after, beside.lastEventId, beside.text], [[], "1-1", "a"]);
      const early = server.stream("?", { signal: AbortSignal.abort() });
      await refused(early.finished);
      same(fetch.calls.length, 2);
    },
  ],
  [
    "a connection that is silent for too long is given up, and sought anew",
    async (client) => {
      const { server } = hurried(client, [CREATED, { text: begun, hangs: true }, sse(["1-2", "done", DONE])]);
      const seen = [];
      const onProgress = ({ connected }) => seen.at(-1) !== connected && seen.push(connected);
      const result = await server.stream("?", { silenceMs: 60, onProgress }).finished;
      same([result.text, seen], ["a", [true, false, true, false]]);
    },
  ],
  [
    "an iterator that is not read holds back the connection, not the memory; one that comes late misses nothing",
    async (client) => {
      const many = Array.from({ length: 40 }, (_, block) => sse(...Array.from({ length: 100 }, (_, n) => [`1-${100 * block + n + 1}`, "message", { text: "x" }])));
      let pulled = 0;
      const body = () => new ReadableStream({
        pull(controller) {
          const text = many[pulled] ?? sse(["1-9999", "done", DONE]);
          controller.enqueue(new TextEncoder().encode(text));
          if (pulled++ === many.length) controller.close();
        },
      }, { highWaterMark: 0 });
      const fetch = async () => new Response(body(), { headers: { "content-type": "text/event-stream" } });
      const stream = new client.Headrace({ baseUrl: "http://made.up", fetch }).resume("s1");
      const iterator = stream[Symbol.asyncIterator]();
      await iterator.next();
      await new Promise((resolve) => setTimeout(resolve, 50));
      check(pulled <= 5, `${pulled} reads, although nobody takes their events`);
      const late = stream[Symbol.asyncIterator]();
      const { value: first } = await late.next();
      same([first.type, first.data.text.length], ["snapshot", stream.text.length]);
      let text = first.data.text;
      const reading = (async () => {
        for await (const { data } of late) text += data.text ?? "";
      })();
      for await (const _ of iterator);
      await reading;
      same([text.length, stream.text.length], [4000, 4000]);
    },
  ],
  [
    "texts() gives the whole text, the newest to who is slow",
    async (client) => {
      const body = sse(["1-1", "message", { text: "wrong" }], ["2-0", "restart", {}], ["2-1", "message", { text: "ri" }]);
      const { server } = hurried(client, [CREATED, "retry: 5\n" + body, sse(["2-2", "message", { text: "ght" }], ["2-3", "done", DONE])]);
      const shown = [];
      for await (const text of server.stream("?").texts()) shown.push(text);
      same(shown, ["ri", "right"]);
    },
  ],
];
