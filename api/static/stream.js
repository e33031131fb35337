// One answer as a turn shows it: the client's stream, translated into the values of this page. No DOM.
//
// A follower begins without a cursor, so the log (or a snapshot) gives it everything from the first character.
// It never gives up: a page may be open for days, and its reader wants to see the answer go on.

import { headrace } from "./api.js";
import { tokensPerSecond } from "./headrace.js";

const BACKOFF_MS = 10_000; // longest pause between tries; a person who waits expects no longer one
const AWAY_MS = 700; // a shorter loss is over before a person could read about it

/** Whether this status is final. */
export const isFinal = (status) => ["done", "failed", "cancelled", "expired"].includes(status);

/** A finished stream's record, as the same values that a follower gives. */
export function answerOf({ status, model, text, reasoning, tool_calls: tools, finish_reason: finish, error, usage, timings, attempt }) {
  const tokens = usage?.output_tokens;
  const stats = { tokens, rate: tokensPerSecond(tokens, timings), firstMs: timings?.first_token_ms, attempt };
  return { status, away: false, model, text, reasoning: reasoning ?? "", tools: tools ?? [], finish, error: error?.message, stats };
}

/**
 * Follows one stream to its end; calls `onChange(values)` at each change, with
 * `{status, away, model, text, reasoning, tools, finish, error, stats}`. The status is queued, thinking or streaming,
 * then done, failed, cancelled or expired (then `values` holds nothing else). `away`: the connection is lost.
 */
export class Follower {
  #stream;
  #onChange;
  #away = false;
  #timer;

  /** `sentAt`: performance.now() at the send, if this page sent it just now. */
  constructor(id, onChange, sentAt) {
    this.#onChange = onChange;
    this.#stream = headrace.resume(id, {
      sentAt,
      maxReconnectAttempts: Infinity,
      maxDelayMs: BACKOFF_MS,
      onProgress: (progress) => this.#take(progress),
    });
  }

  /** Connect again, behind the last event, unless the stream has ended. */
  reconnect() {
    this.#stream.reconnect();
  }

  /** Stop following. The stream itself goes on. */
  close() {
    clearTimeout(this.#timer);
    this.#stream.close();
  }

  #take({ connected, tokens, tokensPerSecond, firstTokenMs, attempt }) {
    const { status, model, text, reasoning, toolCalls, finishReason, error } = this.#stream;
    const shown = error?.status === 404 ? "expired" : (STATUS[status] ?? status);
    if (connected || isFinal(shown)) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#away = false;
    } else {
      this.#timer ??= setTimeout(() => {
        this.#away = true;
        this.#take(this.#stream.progress());
      }, AWAY_MS);
    }
    if (shown === "expired") return this.#onChange({ status: shown, away: false });
    this.#onChange({
      status: shown === "streaming" && !text && !toolCalls.length ? "thinking" : shown,
      away: this.#away,
      model,
      text,
      reasoning,
      tools: toolCalls,
      finish: finishReason,
      error: error?.message,
      stats: { tokens, rate: tokensPerSecond, firstMs: firstTokenMs, attempt },
    });
  }
}

const STATUS = { running: "streaming", ended: "done" };
