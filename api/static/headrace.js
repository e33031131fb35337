/**
 * Headrace's client for browsers and Node 20 or newer: one ES module that needs nothing but `fetch`.
 *
 * Theory of operation. A stream is created by POST under an Idempotency-Key that is made once, so a try whose response
 * was lost is repeated, and finds the same stream. Its events are read over `fetch`. Every failure of that reading
 * (the network, a server that restarts, a proxy's time-out, a connection that is silent for too long) leads to another
 * GET with `Last-Event-ID`. The text and the id of the last event change together, in one synchronous step, so a
 * connection may end between any two bytes: nothing is lost, and an event that comes twice is recognised by its id and
 * dropped. Ids only grow, with one exception: a `snapshot` replaces the whole text and sets the last id, also backwards
 * (Redis may have lost its last moments, which this client had seen).
 *
 * A permanent failure (a 4xx) ends the stream with an error. A temporary one (the network, 5xx, 408, 425, 429, a
 * response that ends early) is tried again, at most `maxReconnectAttempts` times in a row without a new event.
 *
 * Bounds: an event has at most `maxEventChars`. If an iterator is not read, MOST_WAITING events and those of one more
 * read wait for it; then the connection is not read either, and the log keeps the events.
 *
 * The types stand in headrace.d.ts.
 */

const REQUEST_MS = 15_000; // the server responds within 2 s; the rest is for a phone's network
const SILENCE_MS = 45_000; // three keep-alive comments would have come by now
const RETRY_MS = 1_000; // until the server sends another value
const MAX_RETRY_MS = 60_000; // longest pause that a server may ask for: a person would not wait longer
const MAX_DELAY_MS = 30_000;
const MAX_RECONNECTS = 5; // with the pauses above, about half a minute
const JITTER = 0.25; // pauses are up to this much longer, so that not all viewers come back at once
const MAX_EVENT_CHARS = 32 * 1024 * 1024; // the largest event is a snapshot: everything said so far
const MOST_WAITING = 256; // events that wait for an iterator
const STOPPED_MS = 1_500; // a cancel's event comes in well under a second
const CATCH_UP_MS = 400; // events that come right after connecting are older, and do not count for the rate
const MEASURABLE_MS = 250; // a shorter time is too short for a rate
const RATE_MS = 3_000; // the window of the live rate

const PASSING = [408, 425, 429];
const TERMINAL = ["done", "failed", "cancelled"];

/** An error, for people (`message`) and for programs (`code`; `status` if a server sent it). */
export class HeadraceError extends Error {
  constructor(code, message, { status, retryable = false, retryAfterMs = 0, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "HeadraceError";
    Object.assign(this, { code, status, retryable, retryAfterMs });
  }
}

/** A client of one Headrace server. */
export class Headrace {
  #requests;

  /** `key`: a string, or a function that returns one; it is called again with a key that was refused. */
  constructor({ baseUrl = "", key, fetch } = {}) {
    this.#requests = new Requests(String(baseUrl).replace(/\/+$/, ""), key, fetch);
  }

  /** Create a stream and read it. `options`: callbacks, limits, and all other fields of the create call. */
  stream(prompt, options = {}) {
    return new HeadraceStream(this.#requests, { ...options, prompt: prompt ?? undefined }, null);
  }

  /** Read an existing stream, by its id or its events_url: from the beginning, or from behind `lastEventId`. */
  resume(streamIdOrEventsUrl, options = {}) {
    return new HeadraceStream(this.#requests, options, String(streamIdOrEventsUrl));
  }

  /** One create call. It and all calls below throw a HeadraceError if they are refused or get no response. */
  create(fields, { idempotencyKey, signal } = {}) {
    const headers = idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {};
    return this.#requests.call("POST", "/v1/streams", { body: fields, headers, signal });
  }

  /** A stream's record: its status and everything said so far. */
  record(id) {
    return this.#requests.call("GET", at(id));
  }

  /** Stop a stream. */
  cancel(id, reason) {
    return this.#requests.call("POST", `${at(id)}/cancel`, { body: reason ? { reason } : undefined });
  }

  /** Erase a stream, with its whole text. */
  erase(id) {
    return this.#requests.call("DELETE", at(id));
  }

  /** New links to a stream, with a new read token where one is needed. */
  links(id) {
    return this.#requests.call("POST", `${at(id)}/token`);
  }

  /** The absolute URL of a link from the server. */
  resolve(link) {
    return new URL(this.#requests.resolve(link), globalThis.location?.href).href;
  }

  /** The models that can be asked for. */
  models() {
    return this.#requests.call("GET", "/v1/models");
  }
}

/**
 * The rate of an answer that has ended, or null. In: its tokens, and the timings of its record. The time is counted from
 * the first token to the end; for an answer that came all at once, from the start. Less than MEASURABLE_MS gives no rate.
 */
export function tokensPerSecond(tokens, timings) {
  if (!(tokens > 1) || !timings) return null;
  const { total_ms: totalMs, first_token_ms: firstMs } = timings;
  const spanMs = totalMs - firstMs;
  if (spanMs >= MEASURABLE_MS) return ((tokens - 1) * 1000) / spanMs;
  return totalMs >= MEASURABLE_MS ? (tokens * 1000) / totalMs : null;
}

/** One answer as it comes: its text so far, callbacks, iterators. Made by `stream` and `resume`. */
export class HeadraceStream {
  id = null;
  eventsUrl = null;
  lastEventId = "";
  status = "creating";
  /** The place in the queue at the provider, while the stream waits there. */
  place = null;
  connected = false;
  model = null;
  attempt = 1;
  finishReason = null;
  usage = null;
  cost = null;
  timings = null;
  error = null;
  /** Resolves at the end (done or cancelled) to the result; rejects with `error`. */
  finished;

  #requests;
  #options;
  #said;
  #over = new AbortController(); // aborted at the end, of any kind
  #settle;
  #limit = null; // of the connection that is open or being opened
  #hurry = false; // `reconnect` ended the connection: no pause
  #failures = 0; // in a row, without a new event between them
  #met = false; // the server has responded once
  #retryMs = RETRY_MS;
  #renewed = false;
  #last = null; // the terminal event
  #queues = new Set(); // of the iterators
  #waiters = new Set(); // callbacks that wait for a change
  #sleepers = new Set(); // pauses that can be cut short
  #pieces = 0; // deltas: nearly the number of tokens, until `usage` comes
  #arrivals = [];
  #openedAt = 0;
  #sentAt;
  #firstMs = null;

  constructor(requests, options, target) {
    const { own, fields } = split(options);
    this.#requests = requests;
    this.#options = own;
    this.#said = new Said(target === null ? {} : own);
    this.#sentAt = target === null ? performance.now() : own.sentAt;
    this.finished = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.finished.catch(() => {}); // a caller that uses callbacks need not handle it
    if (target !== null) this.#attach(target);
    const { signal } = own;
    const abort = () => this.#detach(signal.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true, signal: this.#over.signal });
    Promise.resolve().then(() => this.#run(fields));
  }

  get text() {
    return this.#said.text;
  }

  get reasoning() {
    return this.#said.reasoning;
  }

  get toolCalls() {
    return this.#said.toolCalls;
  }

  /** The parts of the provider's own, unchanged. */
  get provider() {
    return this.#said.provider;
  }

  /** Stop the generation on the server. Resolves when the server has accepted that; the end itself comes as an event. */
  async stop(reason) {
    while (!this.id && !this.#isOver) await this.#change();
    if (this.#isOver) return;
    const body = reason ? { reason } : undefined;
    const signal = this.#over.signal;
    try {
      await this.#insist(() => this.#requests.call("POST", `${at(this.id)}/cancel`, { body, signal }));
    } catch (error) {
      if (!this.#isOver) throw error;
    }
    if (!this.connected) this.reconnect();
    const late = setTimeout(() => this.reconnect(), STOPPED_MS);
    this.#over.signal.addEventListener("abort", () => clearTimeout(late));
  }

  /** Stop reading; the generation goes on, and `resume` finds it. */
  close() {
    this.#detach(new DOMException("The stream was closed here; it goes on at the server.", "AbortError"));
  }

  /** Connect again at once: the network changed or the machine slept, and a dead connection gives no sign. */
  reconnect() {
    if (this.#isOver) return;
    this.#failures = 0;
    this.#hurry = this.#limit !== null;
    this.#limit?.abort(new HeadraceError("reconnecting", "Connecting again.", { retryable: true }));
    this.#wakeUp();
  }

  /** Tokens so far, their rate, the time to the first one; each is null while it is unknown. */
  progress() {
    const { attempt, status, connected, usage, timings } = this;
    const tokens = usage?.output_tokens ?? (this.#pieces || null);
    return {
      tokens,
      tokensPerSecond: this.#isOver ? tokensPerSecond(tokens, timings) : this.#liveRate(),
      firstTokenMs: timings?.first_token_ms ?? this.#firstMs,
      attempt,
      status,
      connected,
    };
  }

  /**
   * The events, in order. An iterator that begins late gets a `snapshot` of the events that it missed. `failed` is the
   * last event of a stream; any other error is thrown.
   */
  async *[Symbol.asyncIterator]() {
    const queue = [];
    if (this.lastEventId) queue.push({ type: "snapshot", data: { ...this.#said.data(), attempt: this.attempt }, id: this.lastEventId });
    if (this.#last) queue.push(this.#last);
    this.#queues.add(queue);
    try {
      for (;;) {
        while (queue.length) {
          const event = queue.shift();
          if (queue.length === MOST_WAITING) this.#tell();
          yield event;
        }
        if (!this.#isOver) await this.#change();
        else if (this.error && !this.#last) throw this.error;
        else return;
      }
    } finally {
      this.#queues.delete(queue);
      this.#tell();
    }
  }

  /** The whole text so far, after each change; a slow reader gets only the newest. Throws `error`. */
  async *texts() {
    let shown = "";
    for (;;) {
      if (this.text !== shown) yield (shown = this.text);
      else if (!this.#isOver) await this.#change();
      else if (this.error) throw this.error;
      else return;
    }
  }

  // --- connecting ---------------------------------------------------------------------------------------------

  get #isOver() {
    return this.#over.signal.aborted;
  }

  async #run(fields) {
    try {
      if (!this.#isOver && !this.id) await this.#create(fields);
      while (!this.#isOver) await this.#connect();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #create(fields) {
    const headers = { "Idempotency-Key": this.#options.idempotencyKey ?? newKey() };
    const asked = { body: fields, headers, signal: this.#over.signal };
    const created = await this.#insist(() => this.#requests.call("POST", "/v1/streams", asked));
    this.#met = true;
    if (this.#isOver) return;
    Object.assign(this, { id: created.id, eventsUrl: created.events_url, model: created.model, status: "queued" });
    this.#report("onCreated", created);
    this.#tell();
  }

  #attach(target) {
    const url = target.includes("/");
    this.id = url ? decodeURIComponent(/\/streams\/([^/?#]+)/.exec(target)?.[1] ?? "") : target;
    if (!this.id) throw new TypeError(`Neither a stream's id nor its events_url: '${target}'.`);
    this.eventsUrl = url ? target : `${at(target)}/events`;
    this.lastEventId = this.#options.lastEventId ?? "";
    this.status = "queued";
  }

  /** One connection, from its request to its end, and the pause after it. Throws a permanent failure. */
  async #connect() {
    const limit = (this.#limit = new Limit(this.#options.silenceMs ?? SILENCE_MS, this.#over.signal));
    let lost = null;
    try {
      await this.#read(limit);
    } catch (error) {
      lost = limit.signal.aborted ? limit.signal.reason : error;
      if (!(lost instanceof HeadraceError)) lost = unreachable(lost);
    } finally {
      limit.end();
      this.#limit = null;
    }
    if (this.#isOver) return;
    if (lost?.code === "token_expired" && !this.#renewed) return this.#renew(lost);
    if (lost && !lost.retryable) throw lost;
    this.connected = false;
    this.#progressed();
    if (this.#hurry) this.#hurry = false;
    else await this.#pause(++this.#failures, lost);
  }

  async #read(limit) {
    const headers = { Accept: "text/event-stream", ...(this.lastEventId && { "Last-Event-ID": this.lastEventId }) };
    const response = await this.#requests.send("GET", this.eventsUrl, { headers, limit });
    if (response.status === 204) return this.#seenAll();
    if (!response.ok) throw await problemOf(response);
    if (!/^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "")) {
      throw new HeadraceError("no_event_stream", "Something else than the server answered.", { retryable: true });
    }
    this.connected = this.#met = true;
    this.#openedAt = performance.now();
    this.#progressed();
    const parser = new SseParser(this.#options.maxEventChars ?? MAX_EVENT_CHARS);
    const reader = response.body.getReader();
    limit.signal.addEventListener("abort", () => reader.cancel().catch(() => {}));
    try {
      while (!this.#isOver) {
        limit.begin();
        const { done, value } = await reader.read();
        limit.pause();
        if (done) return;
        const events = parser.feed(value);
        if (parser.retryMs !== null) this.#retryMs = Math.min(parser.retryMs, MAX_RETRY_MS);
        for (const event of events) if (!this.#isOver) this.#take(event);
        while (!this.#isOver && this.#isFull() && !limit.signal.aborted) await this.#change();
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  /** 204: the last event was seen before. The record tells how the stream ended, if this client may read it. */
  async #seenAll() {
    let record = {};
    try {
      record = await this.#requests.call("GET", at(this.id), { signal: this.#over.signal });
    } catch (error) {
      if (error.retryable) throw error;
    }
    if (this.#isOver) return;
    if (!TERMINAL.includes(record.status)) return this.#end("ended", {});
    this.#replace(record);
    this.model = record.model ?? this.model;
    this.attempt = record.attempt || this.attempt;
    this.#end(record.status, { ...record, ...record.error });
  }

  /** A new link, after the token of the old one has expired. */
  async #renew(expired) {
    this.#renewed = true;
    try {
      const found = this.#options.renew
        ? await this.#options.renew(this.id)
        : (await this.#requests.call("POST", `${at(this.id)}/token`, { signal: this.#over.signal })).events_url;
      this.eventsUrl = String(found);
    } catch (error) {
      if (this.#isOver) return;
      if (!error?.retryable) throw new HeadraceError(expired.code, expired.message, { status: expired.status, cause: error });
      this.#renewed = false;
      await this.#pause(++this.#failures, error);
    }
  }

  /** Call until there is a response. Throws a permanent failure, and one that lasts for too long. */
  async #insist(call) {
    for (let failures = 1; ; failures += 1) {
      try {
        return await call();
      } catch (error) {
        if (this.#isOver || !error.retryable) throw error;
        await this.#pause(failures, error);
        if (this.#isOver) throw error;
      }
    }
  }

  /** Wait before the next try, after that many failures; throws after too many. */
  async #pause(failures, error) {
    const most = this.#options.maxReconnectAttempts ?? MAX_RECONNECTS;
    const maxDelayMs = this.#options.maxDelayMs ?? MAX_DELAY_MS;
    if (failures > most || error?.retryAfterMs > Math.max(maxDelayMs, MAX_RETRY_MS)) {
      if (error?.status) throw error;
      const times = most === 1 ? "once" : `${most} times`;
      const [code, said] = this.#met
        ? ["connection_lost", `The connection was lost, and looked for ${times} in vain.`]
        : ["unreachable", `The server can't be reached; after the first try it was looked for ${times}.`];
      throw new HeadraceError(code, said, { retryable: true, cause: error });
    }
    const growing = Math.min(maxDelayMs, Math.max(this.#retryMs, 100) * 2 ** (failures - 1));
    const pauseMs = Math.max(this.#retryMs, growing, error?.retryAfterMs ?? 0) * (1 + Math.random() * JITTER);
    if (this.#isOver) return;
    await new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, pauseMs);
      this.#sleepers.add(wake);
    });
  }

  // --- reading the events ---------------------------------------------------------------------------------------

  #take({ type, data: raw, id, hasId }) {
    const placed = hasId && id !== "";
    if (placed && type !== "snapshot" && this.lastEventId && compareIds(id, this.lastEventId) <= 0) return;
    let data;
    try {
      data = JSON.parse(raw);
    } catch (cause) {
      throw new HeadraceError("bad_event", `The server sent a '${type}' event that can't be read.`, { cause });
    }
    if (placed) this.lastEventId = id;
    this.#failures = 0;
    this.#renewed = false;
    const event = { type, data, id: placed ? id : null };
    for (const queue of this.#queues) queue.push(event);
    if (TERMINAL.includes(type)) this.#last = event;
    this.#apply(type, data);
    this.#report("onEvent", event);
  }

  #apply(type, data) {
    switch (type) {
      case "message":
        this.#add(data);
        break;
      case "snapshot":
        this.attempt = data.attempt ?? this.attempt;
        this.#replace(data);
        break;
      case "started":
      case "restart":
        this.#open(data);
        this.#replace({});
        break;
      case "continued":
        this.#open(data);
        break;
      case "waiting":
        this.status = "waiting";
        this.place = data.place ?? null;
        break;
      case "paused":
        this.status = "paused";
        break;
      case "resumed":
        this.status = "running";
        break;
      case "finishing":
        this.finishReason = data.finish_reason ?? null;
        break;
      case "done":
      case "failed":
      case "cancelled":
        return this.#end(type, data);
    }
    this.#progressed();
  }

  #open(data) {
    this.status = "running";
    this.attempt = data.attempt ?? this.attempt;
    this.model = data.model ?? this.model;
  }

  #add(delta) {
    this.status = "running";
    this.#said.add(delta);
    this.#pieces += 1;
    const now = performance.now();
    if (this.#sentAt !== undefined) this.#firstMs ??= now - this.#sentAt;
    if (now - this.#openedAt > CATCH_UP_MS) this.#arrivals.push(now);
    if (this.#arrivals.length > 4 * MOST_WAITING) this.#arrivals.splice(0, MOST_WAITING);
    if (delta.text) this.#report("onMessage", delta.text);
  }

  /** Replace the text by this whole one. If it only continues the old text, callers get the missing piece. */
  #replace(data) {
    const before = this.text;
    this.#said = new Said(data);
    this.#pieces = 0;
    if (this.text) this.status = "running";
    if (!this.text.startsWith(before)) this.#report("onRestart", this.text);
    else if (this.text !== before) this.#report("onMessage", this.text.slice(before.length));
  }

  #end(status, data) {
    if (this.#isOver) return;
    this.status = status;
    this.finishReason = data.finish_reason ?? this.finishReason;
    this.usage = data.usage ?? null;
    this.cost = data.cost ?? null;
    this.timings = data.timings ?? null;
    if (status === "failed") {
      const { code = "failed", message = "It ended without saying why.", retryable = false } = data;
      return this.#fail(new HeadraceError(code, message, { retryable }));
    }
    this.#finish();
    const { id, model, text, reasoning, toolCalls, provider, finishReason, usage, cost, timings, attempt } = this;
    const result = { id, status, model, text, reasoning, toolCalls, provider, finishReason, usage, cost, timings, attempt };
    this.#settle.resolve(result);
    this.#report("onDone", result);
  }

  #fail(error) {
    if (this.#isOver) return;
    this.status = "failed";
    this.error = error;
    this.#finish();
    this.#settle.reject(error);
    this.#report("onError", error);
  }

  #detach(reason) {
    if (this.#isOver) return;
    this.status = "detached";
    this.error = reason;
    this.#finish();
    this.#settle.reject(reason);
  }

  #finish() {
    this.connected = false;
    this.#over.abort();
    this.#wakeUp();
    this.#progressed();
  }

  // --- calling the caller -----------------------------------------------------------------------------------------

  #report(name, value) {
    if (this.status === "detached") return;
    try {
      this.#options[name]?.(value, this);
    } catch (error) {
      // An error in a callback is reported to its author; the stream goes on.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #progressed() {
    this.#tell();
    if (this.#options.onProgress) this.#report("onProgress", this.progress());
  }

  #liveRate(now = performance.now()) {
    this.#arrivals = this.#arrivals.filter((time) => now - time < RATE_MS);
    const spanMs = now - this.#arrivals[0];
    return this.#arrivals.length > 3 && spanMs > 300 ? (this.#arrivals.length * 1000) / spanMs : null;
  }

  #isFull() {
    for (const queue of this.#queues) if (queue.length > MOST_WAITING) return true;
    return false;
  }

  #change() {
    return new Promise((resolve) => this.#waiters.add(resolve));
  }

  #tell() {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const resolve of waiters) resolve();
  }

  #wakeUp() {
    for (const wake of [...this.#sleepers]) wake();
    this.#tell();
  }
}

/** Takes reads of any size, even cut inside a character; returns events (WHATWG HTML, section 9.2). */
export class SseParser {
  /** The last reconnection time that the peer sent, in ms, or null. */
  retryMs = null;

  #decoder = new TextDecoder(); // it removes a byte order mark, and keeps a cut character for the next read
  #most;
  #line = "";
  #afterCr = false;
  #type = "";
  #data = [];
  #chars = 0; // in #data
  #id = "";
  #hasId = false;

  constructor(maxEventChars = MAX_EVENT_CHARS) {
    this.#most = maxEventChars;
  }

  /** In: one read. Out: the events that it completes. Throws a HeadraceError past the bound. */
  feed(bytes) {
    const events = [];
    let text = this.#decoder.decode(bytes, { stream: true });
    if (this.#afterCr && text) {
      this.#afterCr = false;
      if (text[0] === "\n") text = text.slice(1);
    }
    if (text.endsWith("\r")) this.#afterCr = true;
    let at = 0;
    for (const { index, 0: { length } } of text.matchAll(/\r\n|\r|\n/g)) {
      this.#extend(text.slice(at, index));
      at = index + length;
      const line = this.#line;
      this.#line = "";
      if (line) this.#field(line);
      else this.#dispatch(events);
    }
    this.#extend(text.slice(at));
    return events;
  }

  #extend(piece) {
    if (this.#chars + this.#line.length + piece.length > this.#most) {
      throw new HeadraceError("event_too_large", `The server sent an event of more than ${this.#most} characters.`);
    }
    this.#line += piece;
  }

  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value[0] === " ") value = value.slice(1);
    if (name === "data") {
      this.#data.push(value);
      this.#chars += value.length + 1;
    } else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) {
      this.#id = value;
      this.#hasId = true;
    } else if (name === "retry" && /^[0-9]{1,9}$/.test(value)) this.retryMs = Number(value);
  }

  /** `id`: the last id that was sent, as the standard wants. `hasId`: whether it came with this event. */
  #dispatch(events) {
    if (this.#data.length) events.push({ type: this.#type || "message", data: this.#data.join("\n"), id: this.#id, hasId: this.#hasId });
    this.#type = "";
    this.#data = [];
    this.#chars = 0;
    this.#hasId = false;
  }
}

/** Everything said so far: the sum of deltas. */
class Said {
  /** The last call of each index. */
  #lastCalls;

  /** From a `snapshot` event or a record. (A record's `provider` is the provider's name, so it is not read here.) */
  constructor({ text, reasoning, tool_calls: calls, provider_parts: parts } = {}) {
    this.text = text ?? "";
    this.reasoning = reasoning ?? "";
    this.toolCalls = (calls ?? []).map((call) => ({ ...call }));
    this.#lastCalls = new Map(this.toolCalls.map((call) => [call.index, call]));
    this.provider = [...(parts ?? [])];
  }

  add({ text, reasoning, tool_call: piece, provider }) {
    this.text += text ?? "";
    this.reasoning += reasoning ?? "";
    if (provider !== undefined) this.provider.push(provider);
    if (piece) this.#addToolCall(piece);
  }

  /** A new id opens a call, whatever its index; a piece without an id belongs to the last call of its index. */
  #addToolCall({ index, id, name, arguments: piece = "" }) {
    let call = this.#lastCalls.get(index);
    if (!call || (id && call.id && id !== call.id)) {
      this.toolCalls.push((call = { index, id: null, name: null, arguments: "" }));
      this.#lastCalls.set(index, call);
    }
    call.id = id ?? call.id;
    call.name = name ?? call.name;
    call.arguments += piece;
  }

  /** The same fields as in a `snapshot` event. */
  data() {
    const calls = this.toolCalls.map((call) => ({ ...call }));
    return { text: this.text, reasoning: this.reasoning, tool_calls: calls, provider_parts: [...this.provider] };
  }
}

/** Requests to one server: addresses, the key, time-outs, refusals. */
class Requests {
  #base;
  #key;
  #fetch;

  constructor(base, key, fetcher) {
    this.#base = base;
    this.#key = key;
    this.#fetch = fetcher ?? ((url, ...more) => globalThis.fetch(addressed(url), ...more));
  }

  /** One try. Out: the JSON of the response, or null. Throws a HeadraceError, or the reason of an aborted `signal`. */
  async call(method, path, { body, headers, signal } = {}) {
    const limit = new Limit(REQUEST_MS, signal);
    try {
      const response = await this.send(method, path, { body, headers, limit });
      if (!response.ok) throw await problemOf(response);
      return response.status === 204 ? null : await response.json();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw error instanceof HeadraceError ? error : unreachable(error);
    } finally {
      limit.end();
    }
  }

  /** Out: the response, whatever its status. Only after a refused key it is sent again, if the function gives another. */
  async send(method, path, { body, headers, limit }) {
    const url = this.resolve(path);
    const asks = typeof this.#key === "function";
    let key = this.#takesKey(url) ? ((asks ? await this.#key() : this.#key) ?? "") : null;
    for (;;) {
      limit.begin();
      const response = await this.#fetch(url, {
        method,
        body: body && JSON.stringify(body),
        headers: {
          ...(body && { "Content-Type": "application/json" }),
          ...(key && { Authorization: `Bearer ${key}` }),
          ...headers,
        },
        signal: limit.signal,
        cache: "no-store",
      });
      if (response.status !== 401 || !asks || key === null) return response;
      const refusal = await problemOf(response);
      limit.pause(); // the function may ask a person
      const other = await this.#key(key);
      if (!other || other === key) throw refusal;
      key = other;
    }
  }

  /** The URL of a path on the server. (A link from the server begins with its prefix already, if it knows that.) */
  resolve(path) {
    if (/^[a-z][a-z0-9+.-]*:/i.test(path)) return path;
    const [, origin, under] = /^([a-z][a-z0-9+.-]*:\/\/[^/]*)?(.*)$/i.exec(this.#base);
    return under && path.startsWith(`${under}/`) ? (origin ?? "") + path : this.#base + path;
  }

  /** A read token stands in for the key. The key is sent only to this server. */
  #takesKey(url) {
    const mine = this.#base ? url.startsWith(`${this.#base}/`) : url.startsWith("/") && !url.startsWith("//");
    return mine && !/[?&]token=/.test(url);
  }
}

/** A time-out that can begin again, and an abort from outside, in one signal. */
class Limit {
  #controller = new AbortController();
  #ms;
  #timer;
  #outer;
  #forward = () => this.abort(this.#outer.reason);

  constructor(ms, outer) {
    this.#ms = ms;
    this.#outer = outer;
    if (outer?.aborted) this.#forward();
    outer?.addEventListener("abort", this.#forward);
  }

  get signal() {
    return this.#controller.signal;
  }

  begin() {
    this.pause();
    const late = () => this.abort(new HeadraceError("timeout", `Nothing came for ${this.#ms / 1000} s.`, { retryable: true }));
    if (this.#ms > 0 && this.#ms < 2 ** 31) this.#timer = setTimeout(late, this.#ms);
  }

  pause() {
    clearTimeout(this.#timer);
  }

  abort(reason) {
    this.#controller.abort(reason);
  }

  end() {
    this.pause();
    this.#outer?.removeEventListener("abort", this.#forward);
  }
}

const OWN = new Set([
  "onMessage", "onDone", "onError", "onProgress", "onRestart", "onEvent", "onCreated",
  "signal", "idempotencyKey", "maxReconnectAttempts", "maxDelayMs", "silenceMs", "maxEventChars", "renew",
]);
const OWN_RESUMED = new Set([...OWN, "lastEventId", "text", "reasoning", "tool_calls", "provider_parts", "sentAt"]);

/** Split options: those of this client, and fields of the create call. */
function split(options) {
  const own = {};
  const fields = {};
  for (const [name, value] of Object.entries(options)) {
    if (OWN_RESUMED.has(name)) own[name] = value;
    if (!OWN.has(name)) fields[name] = value;
  }
  return { own, fields };
}

const at = (id) => `/v1/streams/${encodeURIComponent(id)}`;

/** In: ids, `<epoch>-<n>`. Out: below, at or above 0, as for sorting. With an id of another form, `a` is equal or greater. */
function compareIds(a, b) {
  const [left, right] = [a, b].map((id) => /^([0-9]+)-([0-9]+)$/.exec(id));
  if (!left || !right) return a === b ? 0 : 1;
  return compareDigits(left[1], right[1]) || compareDigits(left[2], right[2]);
}

const compareDigits = (a, b) => a.length - b.length || (a === b ? 0 : a < b ? -1 : 1);

/** Out: the same address. Throws a permanent failure if it can't be the address of a server. */
function addressed(url) {
  let found;
  try {
    found = new URL(url, globalThis.location?.href);
  } catch {
    // an invalid URL is handled like one with another protocol
  }
  if (/^https?:$/.test(found?.protocol)) return url;
  throw new HeadraceError("no_base_url", `There can be no server at '${url}'. Give a baseUrl, like "https://chat.example.com".`);
}

function unreachable(cause) {
  return new HeadraceError("unreachable", "The server can't be reached.", { retryable: true, cause });
}

/** The error in a refusal (RFC 9457); without a problem document, made from the status. */
async function problemOf(response) {
  const said = await response.json().catch(() => null);
  const { status } = response;
  const message = said?.detail ?? said?.title ?? `The server answered ${status}.`;
  const retryable = status >= 500 || PASSING.includes(status);
  return new HeadraceError(said?.code ?? `http_${status}`, message, { status, retryable, retryAfterMs: retryAfterMs(response.headers) });
}

/** `Retry-After` in ms: seconds, or a date, which is compared with the server's own `Date` if that was sent. */
function retryAfterMs(headers) {
  const said = headers.get("retry-after")?.trim() ?? "";
  if (/^[0-9]+$/.test(said)) return Number(said) * 1000;
  const now = Date.parse(headers.get("date") ?? "") || Date.now();
  return Math.max(0, Date.parse(said) - now) || 0;
}

/** 128 random bits. (`crypto.randomUUID` is missing on plain http other than localhost.) */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
