// One conversation and the life of its turns. No DOM: it tells `onTurn(turn, moved)` of every change, where
// `moved` says that the turn's status is another one (only then lists and buttons change too).
//
// Theory of operation. What is to be done is written down first and done then: a question is in the store,
// under its Idempotency-Key, before it is sent. So a reload at any moment finds one of three cases for a turn:
// no stream yet (send again under the same key: the server makes one stream of it), an unfinished stream
// (follow it from its beginning), or a finished one (its record). Nothing else needs to be remembered.

import { headrace } from "./api.js";
import { newChat, readChat, saveChat, uuid } from "./store.js";
import { answerOf, Follower, isFinal } from "./stream.js";

const MAX_CONTEXT = 12_000; // characters of earlier turns: about 3,000 tokens, which small models still hold
const STOP_MS = 1_500; // a cancel's event is there in well under a second; then it is asked for

/** What happened, in a sentence for people. */
export function sentence(problem) {
  if (problem.status) return problem.message;
  return navigator.onLine ? "The server can't be reached." : "You are offline.";
}

/** The status that a reader sees: a lost connection hides what went on before it. */
export const shownStatus = (turn) => (turn.away && !isFinal(turn.status) ? "reconnecting" : turn.status);

const isActive = (turn) => turn.status !== "unsent" && !isFinal(turn.status);

/** Whether a kept conversation's last answer is under way, as far as this browser knows. */
export const isLive = (chat) => chat.turns.some((turn) => turn.stream && isActive(turn));

/** A conversation that is on screen: kept under `id`, or a new one. */
export class Conversation {
  #onTurn;
  #followers = new Map(); // turn -> Follower, of unfinished streams
  #closed = false;

  constructor(id, onTurn) {
    this.chat = readChat(id) ?? newChat();
    this.#onTurn = onTurn;
  }

  get turns() {
    return this.chat.turns;
  }

  /** The turn whose answer is under way, if there is one. */
  get active() {
    return this.turns.find(isActive);
  }

  /** Go on with every turn where it was, the newest first. */
  resume() {
    for (const turn of [...this.turns].reverse()) {
      if (!turn.stream) turn.status === "sending" && this.#submit(turn);
      else if (isFinal(turn.status)) this.#check(turn);
      else this.#follow(turn);
    }
  }

  /** Follow no longer. The streams themselves go on. */
  close() {
    this.#closed = true;
    for (const follower of this.#followers.values()) follower.close();
  }

  /** Connect anew: the network or the machine was away, and a dead connection may give no sign. */
  reconnect() {
    for (const follower of this.#followers.values()) follower.reconnect();
  }

  /** Send again what could not be sent. */
  resend() {
    for (const turn of this.turns) if (turn.status === "unsent" && turn.lost) this.#submit(turn);
  }

  /** Ask. Out: the new turn, or null where there is nothing to ask or an answer is under way. */
  send(text, model) {
    const prompt = text.trim();
    if (!prompt || this.active) return null;
    const turn = { key: uuid(), prompt, model, stream: null, status: "sending" };
    this.turns.push(turn);
    this.chat.title ||= prompt.split("\n")[0].slice(0, 80);
    this.chat.updated = Date.now();
    saveChat(this.chat);
    this.#submit(turn);
    return turn;
  }

  /** Ask the same again: a new stream, but the very same request where the server may already have it. */
  again(turn, model) {
    if (this.active) return;
    const same = turn.lost || !model;
    const key = turn.stream ? uuid() : turn.key;
    const fresh = { key, prompt: turn.prompt, model: same ? turn.model : model, stream: null };
    for (const name of Object.keys(turn)) delete turn[name];
    Object.assign(turn, fresh);
    this.#submit(turn);
  }

  /** Stop the answer that is under way. Raises what the client's `cancel` raises. */
  async stop() {
    const turn = this.active;
    if (!turn) return;
    turn.stopping = !turn.stream; // then it is stopped as soon as it has one
    if (!turn.stream) return;
    await headrace.cancel(turn.stream);
    const follower = this.#followers.get(turn);
    setTimeout(() => follower?.reconnect(), STOP_MS);
  }

  async #submit(turn) {
    const sentAt = performance.now();
    this.#change(turn, { status: "sending", error: undefined, lost: false });
    try {
      const created = await headrace.create({ model: turn.model, messages: this.#contextOf(turn) }, { idempotencyKey: turn.key });
      this.#change(turn, { status: "queued", stream: created.id, model: created.model ?? turn.model });
    } catch (problem) {
      const away = !problem.status;
      const error = sentence(problem) + (away ? " Your message is kept, and goes out when the connection is back." : "");
      // What may have arrived keeps its key; what was refused would be refused again under it.
      const lost = away || problem.status >= 500;
      const key = lost ? turn.key : uuid();
      this.#change(turn, { status: "unsent", stopping: false, error, lost, key });
      return;
    }
    if (!this.#closed) this.#follow(turn, sentAt);
    if (turn.stopping) await this.stop().catch(() => {});
  }

  #contextOf(turn) {
    const messages = [{ role: "user", content: turn.prompt }];
    let room = MAX_CONTEXT;
    for (const earlier of this.turns.slice(0, this.turns.indexOf(turn)).reverse()) {
      if (!earlier.text || !["done", "cancelled", "expired"].includes(earlier.status)) continue;
      room -= earlier.prompt.length + earlier.text.length;
      if (room < 0) break;
      messages.unshift({ role: "user", content: earlier.prompt }, { role: "assistant", content: earlier.text });
    }
    return messages;
  }

  #follow(turn, sentAt) {
    turn.text = turn.reasoning = "";
    const follower = new Follower(turn.stream, (values) => this.#absorb(turn, values), sentAt);
    this.#followers.set(turn, follower);
  }

  async #check(turn) {
    try {
      const record = await headrace.record(turn.stream);
      if (isFinal(record.status)) this.#absorb(turn, answerOf(record));
    } catch (problem) {
      if (problem.status === 404) this.#absorb(turn, { status: "expired", away: false });
    }
  }

  #absorb(turn, values) {
    const before = shownStatus(turn);
    Object.assign(turn, values, { model: values.model ?? turn.model });
    if (isFinal(turn.status)) {
      if (this.#followers.delete(turn)) this.chat.updated = Date.now();
      this.#keep();
    }
    this.#onTurn(turn, before !== shownStatus(turn));
  }

  #change(turn, values) {
    Object.assign(turn, values);
    this.#keep();
    this.#onTurn(turn, true);
  }

  #keep() {
    if (readChat(this.chat.id)) saveChat(this.chat); // a deleted one stays deleted
  }
}
