/** Headrace's client: headrace.js tells how it works, and docs/clients.md what its options mean. */

export interface HeadraceOptions {
  /** The server's URL. It can be left out on the server's own pages, and if all links are absolute URLs. */
  baseUrl?: string;
  /**
   * An API key, or a function that returns one. After a refusal the function is called again, with the refused key
   * ("" if there was none), and may ask a person for another; null gives up.
   */
  key?: string | ((refused?: string) => string | null | undefined | Promise<string | null | undefined>);
  /** Used in place of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export interface Message {
  role: "system" | "developer" | "user" | "assistant" | "tool";
  content?: unknown;
  [field: string]: unknown;
}

/** A function that the model may call. */
export interface Tool {
  name: string;
  description?: string;
  /** A JSON schema of the arguments, which are an object. */
  parameters: Record<string, unknown>;
  /** The arguments always follow the schema; not for Gemini. */
  strict?: boolean;
  cache_control?: CacheControl;
}

/** A tool of the provider's own, with its type there; all fields are passed on. */
export interface ProviderTool {
  type: string;
  [field: string]: unknown;
}

/** Anthropic's hint to cache the prompt up to here. */
export interface CacheControl {
  type: "ephemeral";
  ttl?: "5m" | "1h";
}

/** The tool that the model must call. */
export interface ToolChoice {
  name: string;
}

export interface ResponseFormat {
  type: "text" | "json_object" | "json_schema";
  json_schema?: JsonSchema;
}

export interface JsonSchema {
  name?: string;
  description?: string;
  schema: Record<string, unknown>;
  strict?: boolean;
}

/** How much the model thinks: in a word, or in tokens. */
export interface Reasoning {
  effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";
  budget_tokens?: number;
}

export interface ToolCall {
  index: number;
  id: string | null;
  name: string | null;
  arguments: string;
}

export interface Usage {
  input_tokens: number | null;
  output_tokens: number | null;
  cached_tokens: number | null;
  reasoning_tokens: number | null;
  [field: string]: unknown;
}

export interface Timings {
  queued_ms: number | null;
  first_token_ms: number | null;
  total_ms: number | null;
}

export type Status =
  | "creating"
  | "queued"
  | "waiting"
  | "running"
  | "paused"
  | "done"
  | "cancelled"
  | "failed"
  /** It ended before this client came. Only the record tells how, and this client may not read that. */
  | "ended"
  /** It is no longer read here; it goes on at the server. */
  | "detached";

export interface Progress {
  /** Deltas so far, nearly the number of tokens; at the end, the provider's own count. */
  tokens: number | null;
  /** The rate of the last seconds; at the end, of the whole answer. */
  tokensPerSecond: number | null;
  firstTokenMs: number | null;
  /** More than 1 if a worker or its provider was lost. */
  attempt: number;
  status: Status;
  /** False while the client connects or reconnects. */
  connected: boolean;
}

export interface HeadraceEvent {
  type:
    | "queued"
    | "started"
    | "message"
    | "restart"
    | "continued"
    | "snapshot"
    | "finishing"
    | "done"
    | "failed"
    | "cancelled"
    | (string & {});
  data: any;
  /** Its position in the stream, for `lastEventId`. */
  id: string | null;
}

export interface Created {
  id: string;
  status: string;
  model: string;
  events_url: string;
  url: string;
}

export interface Links {
  id: string;
  events_url: string;
  url: string;
  expires_in_s: number | null;
}

export interface Result {
  id: string;
  status: "done" | "cancelled" | "ended";
  model: string | null;
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  provider: unknown[];
  finishReason: string | null;
  usage: Usage | null;
  /** As the server sends it; null if a price is unknown. */
  cost: any;
  timings: Timings | null;
  attempt: number;
}

/** Callbacks and limits, for `stream` and `resume`. */
export interface ReadOptions {
  /** The next piece of text. */
  onMessage?: (text: string, stream: HeadraceStream) => void;
  /** The text shown so far is no longer valid: show this text instead, and append to it. */
  onRestart?: (text: string, stream: HeadraceStream) => void;
  /** The answer is complete, or was cancelled (`result.status`). This or `onError` is the last call, but for an abort. */
  onDone?: (result: Result, stream: HeadraceStream) => void;
  /** The stream failed, or could not be created or read. No call follows. */
  onError?: (error: HeadraceError, stream: HeadraceStream) => void;
  onProgress?: (progress: Progress, stream: HeadraceStream) => void;
  /** Every event, also of types that only a newer server knows. */
  onEvent?: (event: HeadraceEvent, stream: HeadraceStream) => void;
  /**
   * Ends the reading, not the generation (`stop()` does that). An abort is the caller's own act, like `close()`: no
   * callback is called after it, neither `onDone` nor `onError`; `finished` rejects with the signal's reason.
   */
  signal?: AbortSignal;
  /** Tries in a row without a new event, before `onError` (5). */
  maxReconnectAttempts?: number;
  /** Longest pause between tries, in ms (30,000); the server may ask for a longer one. */
  maxDelayMs?: number;
  /** A connection that is silent for longer is closed, in ms (45,000: three keep-alive comments of the server). */
  silenceMs?: number;
  /** Longest event, in UTF-16 units (32 Mi). */
  maxEventChars?: number;
  /** Returns a new events_url after its token has expired. Without this function the server is asked, which needs a key. */
  renew?: (id: string) => string | Promise<string>;
}

/** All fields of `POST /v1/streams`; fields that are not listed here are sent, too. */
export interface StreamOptions extends ReadOptions {
  onCreated?: (created: Created, stream: HeadraceStream) => void;
  /** By default it is made once for each stream. The same key leads to the same stream. */
  idempotencyKey?: string;
  /** `provider/name`, or a name of the default model's provider. */
  model?: string;
  /** Models that are asked in turn, as long as none has sent a token. */
  fallbacks?: string[];
  /** Used in place of the prompt, which is then null. */
  messages?: Message[];
  max_tokens?: number;
  temperature?: number;
  top_p?: number;
  stop?: string[];
  tools?: (ProviderTool | Tool)[];
  tool_choice?: "auto" | "none" | "required" | ToolChoice;
  parallel_tool_calls?: boolean;
  response_format?: ResponseFormat;
  reasoning?: Reasoning;
  seed?: number;
  /** An id of the end user, for the provider; no name or address. */
  user?: string;
  /** Put unchanged into the provider's request. */
  provider_options?: Record<string, unknown>;
  /** What to do when an attempt ends before its finish reason ("continue"). */
  on_failure?: "continue" | "continue_or_fail" | "restart" | "fail";
  /** "client": pause while nobody reads and no heartbeat comes, and cancel the stream in the end ("none"). */
  flow?: "none" | "client";
  /** With flow "client": seconds without a reader or heartbeat until the stream pauses (30). */
  pause_after?: number;
  /** With flow "client": seconds of pausing until the stream is cancelled (300). */
  abandon_after?: number;
  [field: string]: unknown;
}

export interface ResumeOptions extends ReadOptions {
  /** Go on behind this event. The fields below give the answer up to it. */
  lastEventId?: string;
  text?: string;
  reasoning?: string;
  tool_calls?: ToolCall[];
  provider_parts?: unknown[];
  /** `performance.now()` at the send, for `firstTokenMs`. */
  sentAt?: number;
}

export class Headrace {
  constructor(options?: HeadraceOptions);
  /** Create a stream and read it. With `messages` the prompt is null. */
  stream(prompt: string | null | undefined, options?: StreamOptions): HeadraceStream;
  /** Read an existing stream: from its beginning, or from behind `lastEventId`. */
  resume(streamIdOrEventsUrl: string | URL, options?: ResumeOptions): HeadraceStream;
  create(
    fields: Record<string, unknown>,
    options?: { idempotencyKey?: string; signal?: AbortSignal },
  ): Promise<Created>;
  record(id: string): Promise<Record<string, any>>;
  cancel(id: string, reason?: string): Promise<Created>;
  erase(id: string): Promise<null>;
  links(id: string): Promise<Links>;
  /** The absolute URL of a link from the server. */
  resolve(link: string): string;
  models(): Promise<{ default: string; models: { id: string; provider: string }[] }>;
}

export class HeadraceStream implements AsyncIterable<HeadraceEvent> {
  private constructor();
  readonly id: string | null;
  readonly eventsUrl: string | null;
  readonly lastEventId: string;
  readonly status: Status;
  /** The place in the queue at the provider, while the stream waits there. */
  readonly place: number | null;
  readonly connected: boolean;
  readonly model: string | null;
  readonly attempt: number;
  readonly finishReason: string | null;
  readonly usage: Usage | null;
  readonly cost: any;
  readonly timings: Timings | null;
  /** Why the stream ended without a result: a HeadraceError, or the abort's reason. */
  readonly error: any;
  /** Everything said so far. */
  readonly text: string;
  readonly reasoning: string;
  readonly toolCalls: ToolCall[];
  /** The parts of the provider's own, unchanged. */
  readonly provider: unknown[];
  readonly finished: Promise<Result>;
  /** Stop the generation on the server. */
  stop(reason?: string): Promise<void>;
  /** Stop reading; the generation goes on. The same as an abort of `signal`. */
  close(): void;
  /** Connect again at once, after the network changed or the machine slept. */
  reconnect(): void;
  progress(): Progress;
  /** The whole text so far, after each change. */
  texts(): AsyncGenerator<string, void, undefined>;
  [Symbol.asyncIterator](): AsyncGenerator<HeadraceEvent, void, undefined>;
}

/**
 * Tokens a second of an answer that has ended, by the timings of its record; null if they can't be computed. For an
 * answer that came all at once, the time is counted from the start.
 */
export function tokensPerSecond(tokens: number | null | undefined, timings: Timings | null | undefined): number | null;

export class HeadraceError extends Error {
  constructor(
    code: string,
    message: string,
    options?: { status?: number; retryable?: boolean; retryAfterMs?: number; cause?: unknown },
  );
  /**
   * Stable, for programs: a code of the server (docs/errors.md), or of this client: `unreachable` (the server never
   * responded), `connection_lost` (it did, and then no more), `no_base_url`, `timeout`, `no_event_stream`, `bad_event`,
   * `event_too_large`, and `http_<status>` for a response without a code.
   */
  readonly code: string;
  /** The HTTP status, if the server refused. */
  readonly status: number | undefined;
  readonly retryable: boolean;
  readonly retryAfterMs: number;
}

export interface SseEvent {
  type: string;
  data: string;
  id: string;
  hasId: boolean;
}

/** Takes reads of any size; returns events by the WHATWG standard. */
export class SseParser {
  constructor(maxEventChars?: number);
  readonly retryMs: number | null;
  feed(bytes: Uint8Array): SseEvent[];
}
