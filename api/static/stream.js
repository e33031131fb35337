// The follower of one stream. No DOM.
//
// Theory of operation. A follower begins without a cursor, so the log (or a snapshot) gives it everything from
// the first character, and it keeps the id of each event. From then on it only ever continues behind that id:
// the browser's own EventSource sends it as Last-Event-ID; where EventSource has given up (any status but 200),
// or may sit on a dead connection (long silence, a laptop that slept, another network), a new one sends it in
// the query. Text and id change together, in one event handler, and a replaced source is closed first. So no
// text is doubled and none is lost; `restart` and `snapshot` say when to drop what was there.
// The record is asked only where the events can't tell: gone (404), at its end, or behind a door (it brings a new
// link to the events where the old one has expired, or where this page has none yet).

import { api } from "./api.js";

const SILENCE_MS = 45_000; // three keep-alive comments, which EventSource hides, would have come by now
const BACKOFF_MS = 10_000; // longest pause between tries; a person who waits expects no longer one
const AWAY_MS = 700; // shorter losses are mended before one could read about them
const CATCH_UP_MS = 400; // what comes right after connecting was said before, and tells nothing of the rate
const RATE_MS = 3_000; // the window of the live rate

export const isFinal = (status) => ["done", "failed", "cancelled", "expired"].includes(status);

/** Follows one stream to its end; calls `onChange` whenever something is new. */
export class Follower {
  text = "";
  reasoning = "";
  tools = [];
  status = "queued"; // queued, thinking, streaming, then done, failed, cancelled or expired
  away = false; // the connection is lost, and being sought
  attempt = 1;
  pieces = 0; // deltas: nearly the tokens, until `usage` tells
  model; // as the server named it
  finish; // the finish reason
  usage;
  timings;
  error; // a sentence, when it failed

  #id;
  #onChange;
  #sentAt;
  #firstMs;
  #closed = false;
  #source = null;
  #lastId = "";
  #tries = 0;
  #openedAt = 0;
  #arrivals = [];
  #timers = {};

  /** `sentAt`: performance.now() at the send, if this page sent it just now. */
  constructor(id, onChange, sentAt) {
    this.#id = id;
    this.#onChange = onChange;
    this.#sentAt = sentAt;
  }

  /** Connect, or connect anew behind the last event. Once closed it stays closed. */
  connect() {
    if (this.#closed) return;
    this.#disconnect();
    if (!api.canRead(this.#id)) return this.settle();
    const source = new EventSource(api.eventsPath(this.#id, this.#lastId));
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => this.#lost(source);
    source.onmessage = (event) => this.#take(event, (data) => this.#add(data));
    const on = (name, apply) => source.addEventListener(name, (event) => this.#take(event, apply));
    on("queued", (data) => this.#enter("queued", data));
    on("started", (data) => this.#begin(data));
    on("restart", (data) => this.#begin(data));
    on("continued", (data) => (this.attempt = data.attempt ?? this.attempt));
    on("snapshot", (data) => this.#replace(data));
    on("finishing", (data) => this.#enter("streaming", data));
    for (const name of ["done", "failed", "cancelled"]) on(name, (data) => this.#end(name, data));
    this.#wait("silence", SILENCE_MS, () => this.connect());
  }

  /** Stop following. The stream itself goes on. */
  close() {
    this.#closed = true;
    this.#disconnect();
    for (const name of Object.keys(this.#timers)) this.#wait(name, 0, null);
  }

  /** Take a finished stream's record as it is. Out: whether it is finished. */
  adopt(record) {
    if (!isFinal(record.status)) return false;
    this.#replace(record);
    this.attempt = record.attempt || 1;
    this.model = record.model;
    this.#end(record.status, { ...record, ...record.error });
    return true;
  }

  /** The record is gone. */
  expire() {
    this.#end("expired", {});
  }

  /** Out: `{tokens, rate (tokens/s), firstMs, attempt}`, each undefined while it can't be said. */
  stats() {
    const { usage, timings, attempt } = this;
    const tokens = usage?.output_tokens ?? (this.pieces || undefined);
    const firstMs = timings?.first_token_ms ?? this.#firstMs;
    if (!isFinal(this.status)) return { tokens, rate: this.#liveRate(), firstMs, attempt };
    const spanMs = timings?.total_ms - timings?.first_token_ms;
    return { tokens, rate: tokens > 1 && spanMs > 0 ? ((tokens - 1) * 1000) / spanMs : undefined, firstMs, attempt };
  }

  /** Ask the record how it stands, then go on from there. */
  async settle() {
    if (this.#closed) return;
    this.#disconnect();
    const away = !api.canRead(this.#id);
    try {
      if (this.adopt(await api.record(this.#id))) return;
      if (away) return this.connect();
    } catch (problem) {
      if (problem.status === 404) return this.expire();
    }
    if (this.#closed) return;
    const pauseMs = Math.min(BACKOFF_MS, 500 * 2 ** this.#tries);
    this.#tries += 1;
    this.#wait("retry", pauseMs * (0.5 + Math.random() / 2), () => this.connect());
  }

  #take(event, apply) {
    this.#lastId = event.lastEventId;
    this.#wait("silence", SILENCE_MS, () => this.connect());
    apply(JSON.parse(event.data));
    this.#onChange();
  }

  #enter(status, data) {
    this.status = status;
    this.model = data.model ?? this.model;
    this.finish = data.finish_reason ?? this.finish;
  }

  #begin(data) {
    this.#replace({ text: "" });
    this.attempt = data.attempt ?? this.attempt;
    this.#enter("thinking", data);
  }

  #replace(data) {
    this.text = data.text ?? "";
    this.reasoning = data.reasoning ?? "";
    this.tools = data.tool_calls ?? [];
    this.pieces = 0;
    if (this.text || this.tools.length) this.status = "streaming";
  }

  #add({ text, reasoning, tool_call: call }) {
    this.text += text ?? "";
    this.reasoning += reasoning ?? "";
    if (call) this.#addToolCall(call);
    this.status = reasoning && !this.text ? "thinking" : "streaming";
    this.pieces += 1;
    const now = performance.now();
    if (this.#sentAt) this.#firstMs ??= now - this.#sentAt;
    if (now - this.#openedAt > CATCH_UP_MS) this.#arrivals.push(now);
  }

  #addToolCall({ index, id, name, arguments: piece = "" }) {
    let call = this.tools.find((known) => known.index === index);
    if (!call) this.tools.push((call = { index, id: null, name: null, arguments: "" }));
    call.id = id ?? call.id;
    call.name = name ?? call.name;
    call.arguments += piece;
  }

  #end(status, data) {
    this.close();
    this.away = false;
    this.status = status;
    this.finish = data.finish_reason ?? this.finish;
    this.usage = data.usage ?? undefined;
    this.timings = data.timings ?? undefined;
    if (status === "failed") this.error = data.message ?? "It ended without saying why.";
    this.#onChange();
  }

  #liveRate(now = performance.now()) {
    this.#arrivals = this.#arrivals.filter((time) => now - time < RATE_MS);
    const spanMs = now - this.#arrivals[0];
    return this.#arrivals.length > 3 && spanMs > 300 ? (this.#arrivals.length * 1000) / spanMs : undefined;
  }

  #opened() {
    this.#tries = 0;
    this.#openedAt = performance.now();
    this.#wait("away", 0, null);
    this.away = false;
    this.#onChange();
  }

  #lost(source) {
    if (source !== this.#source) return;
    this.#timers.away ??= setTimeout(() => {
      this.away = true;
      this.#onChange();
    }, AWAY_MS);
    if (source.readyState === EventSource.CLOSED) this.settle();
  }

  #disconnect() {
    this.#source?.close();
    this.#source = null;
    this.#wait("retry", 0, null);
  }

  #wait(name, ms, then) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = then ? setTimeout(then, ms) : undefined;
  }
}
