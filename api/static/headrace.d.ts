/** Headrace's client: see headrace.js for how it works, and docs/clients.md for what its options mean. */

export interface HeadraceOptions {
  /** Where the server is; on its own pages it can be left out, and where all links are whole addresses. */
  baseUrl?: string;
  /**
   * A key of the server, or a function that gives one. A function is called again, with the key that was refused
   * ("" if there was none), and may ask for another; null gives up.
   */
  key?: string | ((refused?: string) => string | null | undefined | Promise<string | null | undefined>);
  /** In place of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export interface Message {
  role: "system" | "developer" | "user" | "assistant" | "tool";
  content?: unknown;
  [field: string]: unknown;
}

/** A function that the model may ask for. */
export interface Tool {
  name: string;
  description?: string;
  /** A JSON schema of the arguments, an object's. */
  parameters: Record<string, unknown>;
  /** Arguments keep to the schema; not for Gemini. */
  strict?: boolean;
  cache_control?: CacheControl;
}

/** A tool of the provider's own, by its type there; all fields are passed on. */
export interface ProviderTool {
  type: string;
  [field: string]: unknown;
}

/** Anthropic's hint that the prompt up to here is worth keeping. */
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
  /** At its end before this client came; how it ended is known to those only who may read the record. */
  | "ended"
  /** Read no longer here; it goes on at the server. */
  | "detached";

export interface Progress {
  /** Deltas so far, nearly the tokens; the provider's own count at the end. */
  tokens: number | null;
  /** Over the last seconds; at the end, over the whole answer. */
  tokensPerSecond: number | null;
  firstTokenMs: number | null;
  /** More than 1 where a worker or its provider was lost. */
  attempt: number;
  status: Status;
  /** False while the connection is being made or sought. */
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
  /** Its place in the stream, for `lastEventId`. */
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
  /** As the server has it; null where a price is unknown. */
  cost: any;
  timings: Timings | null;
  attempt: number;
}

/** Callbacks and limits, for `stream` and `resume`. */
export interface ReadOptions {
  /** The next piece of text. */
  onMessage?: (text: string, stream: HeadraceStream) => void;
  /** What was shown is void; show this text instead, and go on behind it. */
  onRestart?: (text: string, stream: HeadraceStream) => void;
  /** It is complete, or was cancelled (`result.status`). This or `onError` is the last call, but for an abort. */
  onDone?: (result: Result, stream: HeadraceStream) => void;
  /** It failed, or could not be created or read; nothing comes any more. */
  onError?: (error: HeadraceError, stream: HeadraceStream) => void;
  onProgress?: (progress: Progress, stream: HeadraceStream) => void;
  /** Every event, also those that a later server may know. */
  onEvent?: (event: HeadraceEvent, stream: HeadraceStream) => void;
  /**
   * Ends the reading, not the generation (that is `stop()`). An abort is the caller's own act, as `close()` is: no
   * callback is called behind it, neither `onDone` nor `onError`; `finished` rejects with the signal's reason.
   */
  signal?: AbortSignal;
  /** Tries in a row that bring nothing new, before `onError` (5). */
  maxReconnectAttempts?: number;
  /** Longest pause between tries, in ms (30,000); the server's own wish may be longer. */
  maxDelayMs?: number;
  /** A connection silent for longer is given up, in ms (45,000; three keep-alive comments of the server). */
  silenceMs?: number;
  /** Longest event, in UTF-16 units (32 Mi). */
  maxEventChars?: number;
  /** Gives a new events_url when its token has expired; without it the server is asked, which needs a key. */
  renew?: (id: string) => string | Promise<string>;
}

/** All fields of `POST /v1/streams`; those that this file does not know are sent too. */
export interface StreamOptions extends ReadOptions {
  onCreated?: (created: Created, stream: HeadraceStream) => void;
  /** Made once by itself; the same key is the same stream. */
  idempotencyKey?: string;
  /** `provider/name`, or a name of the default model's provider. */
  model?: string;
  /** Asked in turn while none has said a token. */
  fallbacks?: string[];
  /** In place of the prompt, which is then null. */
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
  /** Who asks, for the provider; no name or address. */
  user?: string;
  /** Put into the provider's request as they are. */
  provider_options?: Record<string, unknown>;
  /** What to do when an attempt ends before its finish reason ("continue"). */
  on_failure?: "continue" | "continue_or_fail" | "restart" | "fail";
  /** "client": pause while nobody reads and no heartbeat comes, and give up in the end ("none"). */
  flow?: "none" | "client";
  /** With flow "client": seconds without a sign of life, until it pauses (30). */
  pause_after?: number;
  /** With flow "client": seconds of pausing, until it is given up (300). */
  abandon_after?: number;
  [field: string]: unknown;
}

export interface ResumeOptions extends ReadOptions {
  /** Go on behind this event; together with what was said up to it. */
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
  /** Read a stream that exists: from its beginning, or behind `lastEventId`. */
  resume(streamIdOrEventsUrl: string | URL, options?: ResumeOptions): HeadraceStream;
  create(
    fields: Record<string, unknown>,
    options?: { idempotencyKey?: string; signal?: AbortSignal },
  ): Promise<Created>;
  record(id: string): Promise<Record<string, any>>;
  cancel(id: string, reason?: string): Promise<Created>;
  erase(id: string): Promise<null>;
  links(id: string): Promise<Links>;
  /** The whole address of a link that the server gave. */
  resolve(link: string): string;
  models(): Promise<{ default: string; models: { id: string; provider: string }[] }>;
}

export class HeadraceStream implements AsyncIterable<HeadraceEvent> {
  private constructor();
  readonly id: string | null;
  readonly eventsUrl: string | null;
  readonly lastEventId: string;
  readonly status: Status;
  /** Its place in the line at the provider, while it waits there. */
  readonly place: number | null;
  readonly connected: boolean;
  readonly model: string | null;
  readonly attempt: number;
  readonly finishReason: string | null;
  readonly usage: Usage | null;
  readonly cost: any;
  readonly timings: Timings | null;
  /** Why it ended without a result: a HeadraceError, or the abort's reason. */
  readonly error: any;
  /** Everything said so far. */
  readonly text: string;
  readonly reasoning: string;
  readonly toolCalls: ToolCall[];
  /** What the provider said that has no other place, as it came. */
  readonly provider: unknown[];
  readonly finished: Promise<Result>;
  /** Stop the generation on the server. */
  stop(reason?: string): Promise<void>;
  /** Read no longer; the generation goes on. As an abort of `signal`. */
  close(): void;
  /** Connect anew at once, for networks that changed and machines that slept. */
  reconnect(): void;
  progress(): Progress;
  /** The whole text so far, each time it has changed. */
  texts(): AsyncGenerator<string, void, undefined>;
  [Symbol.asyncIterator](): AsyncGenerator<HeadraceEvent, void, undefined>;
}

/**
 * Tokens a second of an answer that has ended, by the timings of its record; null where it can't be told. Of an answer
 * that came at once, it is counted from the start.
 */
export function tokensPerSecond(tokens: number | null | undefined, timings: Timings | null | undefined): number | null;

export class HeadraceError extends Error {
  constructor(
    code: string,
    message: string,
    options?: { status?: number; retryable?: boolean; retryAfterMs?: number; cause?: unknown },
  );
  /**
   * Stable, for programs: the server's own (docs/errors.md), or this client's: `unreachable` (it never answered),
   * `connection_lost` (it did, and then no more), `no_base_url`, `timeout`, `no_event_stream`, `bad_event`,
   * `event_too_large`, and `http_<status>` where an answer has no code.
   */
  readonly code: string;
  /** The HTTP status, where the server refused. */
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

/** Takes reads of any size; gives events as the WHATWG standard has them. */
export class SseParser {
  constructor(maxEventChars?: number);
  readonly retryMs: number | null;
  feed(bytes: Uint8Array): SseEvent[];
}
