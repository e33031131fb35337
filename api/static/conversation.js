// One conversation and the life of its turns. No DOM: it calls `onTurn(turn, moved)` at every change; `moved` tells
// that the turn's status has changed (only then lists and buttons change too).
//
// Theory of operation. Each action is stored before it is carried out: a question is in the store, under its
// Idempotency-Key, before it is sent. So a reload at any moment finds one of three cases for a turn: no stream yet
// (send again under the same key: the server makes only one stream), an unfinished stream (follow it from its
// beginning), or a finished one (read its record). Nothing else needs to be remembered.
//
// A closed conversation calls nothing and follows nothing. A response of the server that comes late has one effect:
// the id of the new stream is written into the stored entry of its turn, wherever that turn is shown now.
//
// Another tab may show the same conversation. `reread` takes over the entries that it has written. A question that
// was asked there is sent there. It is sent here, under the same key, only if that tab does not do it (it was closed).

import { headrace } from "./api.js";
import { hasChat, newChat, readChat, readTurn, saveHead, saveTurn, trim, uuid } from "./store.js";
import { answerOf, Follower, isFinal } from "./stream.js";

const MAX_CONTEXT = 12_000; // characters of earlier turns: about 3,000 tokens, which small models still hold
const MAX_IMAGES = 160_000; // characters of images in a request, of the 256 KiB that a server takes
const STOP_MS = 1_500; // a cancel's event comes in well under a second; after this time the record is read
const RESCUE_MS = 5_000; // the time that another tab has to send its question

/** An error as a sentence for people. */
export function sentence(problem) {
  if (problem.status) return problem.message;
  return navigator.onLine ? "The server can't be reached." : "You are offline.";
}

/** The status that a reader sees: a lost connection hides the status before it. */
export const shownStatus = (turn) => (turn.away && !isFinal(turn.status) ? "reconnecting" : turn.status);

const isActive = (turn) => turn.status !== "unsent" && !isFinal(turn.status);

/** Whether an answer of a kept conversation is under way, as far as this browser knows. */
export const isLive = (chat) => chat.turns.some((turn) => turn.stream && isActive(turn));

/** A conversation on screen: stored under `id`, or a new one. */
export class Conversation {
  #onTurn;
  #followers = new Map(); // turn -> Follower of its unfinished stream
  #elsewhere = new Set(); // turns that were asked in another tab while this one was open
  #timers = new Set();
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
    return this.turns.findLast(isActive);
  }

  /** Whether the next question has to wait. A question of another tab does not block it. */
  get isBusy() {
    return this.turns.some((turn) => isActive(turn) && !this.#elsewhere.has(turn));
  }

  /** Resume every turn, the newest first. */
  resume() {
    for (const turn of [...this.turns].reverse()) this.#goOn(turn);
  }

  /** Stop following and calling. The streams themselves go on. */
  close() {
    this.#closed = true;
    for (const follower of this.#followers.values()) follower.close();
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** Connect again: the network or the machine was away, and a dead connection may give no sign. */
  reconnect() {
    for (const follower of this.#followers.values()) follower.reconnect();
  }

  /** Send questions again that could not be sent. */
  resend() {
    for (const turn of this.turns) if (turn.status === "unsent" && turn.lost) this.#submit(turn);
  }

  /** Take over the entries that another tab has written. Out: false if it has deleted the conversation. */
  reread() {
    const kept = readChat(this.chat.id);
    if (!kept) return !this.turns.length;
    const { turns, ...head } = kept;
    Object.assign(this.chat, head);
    for (const theirs of turns) {
      const mine = this.turns.find((turn) => turn.id === theirs.id);
      if (mine?.key === theirs.key && (!theirs.stream || mine.stream === theirs.stream)) continue;
      const turn = mine ?? theirs;
      if (mine) {
        for (const name of Object.keys(mine)) delete mine[name];
        Object.assign(mine, theirs);
      } else {
        const behind = this.turns.findIndex((each) => each.at > theirs.at);
        this.turns.splice(behind < 0 ? this.turns.length : behind, 0, theirs);
      }
      this.#elsewhere.add(turn);
      this.#tell(turn, true);
      this.#goOn(turn);
    }
    return true;
  }

  /** Set the instructions of this conversation and the temperature (undefined: the model's own). */
  instruct({ system, temperature }) {
    Object.assign(this.chat, { system, temperature });
    if (hasChat(this.chat.id)) saveHead(this.chat);
  }

  /** Ask. Out: the new turn, or null if the question is empty or an answer is under way. */
  send(text, images, model) {
    const prompt = text.trim();
    if ((!prompt && !images.length) || this.isBusy) return null;
    const { system, temperature } = this.chat;
    const at = Math.max(Date.now(), (this.turns.at(-1)?.at ?? 0) + 1);
    const turn = { id: uuid().slice(0, 8), at, key: uuid(), prompt, system, temperature, model, stream: null, status: "sending" };
    if (images.length) turn.images = images;
    this.turns.push(turn);
    this.chat.title ||= prompt.split("\n")[0].slice(0, 80) || "An image";
    this.chat.updated = Date.now();
    trim(this.chat);
    saveHead(this.chat);
    this.#submit(turn);
    return turn;
  }

  /** Ask the same again: a new stream, but the same request and key if the server may already have it. */
  again(turn, model) {
    if (this.isBusy) return;
    const { id, at, prompt, images } = turn;
    const same = turn.lost || !model;
    const { system, temperature } = turn.lost ? turn : this.chat;
    const key = turn.stream ? uuid() : turn.key;
    for (const name of Object.keys(turn)) if (name !== "model") delete turn[name];
    Object.assign(turn, { id, at, key, prompt, images, system, temperature, model: same ? turn.model : model, stream: null });
    this.#elsewhere.delete(turn);
    this.#submit(turn);
  }

  /** Stop the answer that is under way. Raises as the client's `cancel` does. */
  async stop() {
    const turn = this.active;
    if (!turn) return;
    turn.stopping = !turn.stream; // without a stream yet, the turn is stopped as soon as it has one
    if (turn.stream) await this.#cancel(turn);
  }

  async #cancel(turn) {
    await headrace.cancel(turn.stream);
    this.#later(STOP_MS, () => this.#followers.get(turn)?.reconnect());
  }

  #later(ms, act) {
    if (this.#closed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  #goOn(turn) {
    if (turn.stream) {
      if (isFinal(turn.status)) this.#check(turn);
      else this.#follow(turn);
    } else if (turn.status === "sending") {
      if (turn.imagesLost) this.#change(turn, { status: "unsent", key: uuid(), error: "Its image was not kept. Ask again with the image." });
      else if (!this.#elsewhere.has(turn)) this.#submit(turn);
      else this.#later(RESCUE_MS, () => turn.status === "sending" && !turn.stream && this.#submit(turn));
    }
  }

  async #submit(turn) {
    const sentAt = performance.now();
    const { messages, cut } = this.#contextOf(turn);
    const { key, model, temperature } = turn;
    this.#change(turn, { status: "sending", error: undefined, lost: false, cut });
    let created;
    try {
      created = await headrace.create({ model, messages, temperature }, { idempotencyKey: key });
    } catch (problem) {
      // A closed conversation leaves the question as it is: opened again, it is sent again under the same key.
      if (this.#closed || turn.key !== key) return;
      const away = !problem.status;
      const error = sentence(problem) + (away ? " Your message is kept, and goes out when the connection is back." : "");
      // A request that may have arrived keeps its key; a refused one would be refused again under the same key.
      const lost = away || problem.status >= 500;
      this.#change(turn, { status: "unsent", stopping: false, error, lost, key: lost ? key : uuid() });
      return;
    }
    const known = { status: "queued", stream: created.id, model: created.model ?? model };
    const { stopping } = turn;
    if (this.#closed) {
      const kept = readTurn(this.chat.id, turn);
      if (kept?.key === key && !kept.stream) saveTurn(this.chat.id, { ...kept, ...known });
    } else if (turn.key === key && turn.stream !== created.id) {
      this.#change(turn, known);
      this.#follow(turn, sentAt);
    }
    if (stopping) await this.#cancel({ stream: created.id }).catch(() => {});
  }

  /** The messages for a question, and how much of the earlier turns was left out: `{turns, images}`, or undefined. */
  #contextOf(turn) {
    const cut = { turns: 0, images: turn.imagesLost ?? 0 };
    const messages = [{ role: "user", content: contentOf(turn.prompt, turn.images ?? []) }];
    let room = MAX_CONTEXT;
    let imageRoom = MAX_IMAGES - sizeOf(turn.images);
    for (const earlier of this.turns.slice(0, this.turns.indexOf(turn)).reverse()) {
      if (!["done", "cancelled", "expired"].includes(earlier.status)) continue;
      const { prompt, text = "", images = [], imagesLost = 0 } = earlier;
      room -= prompt.length + text.length;
      if (!text || room < 0) {
        cut.turns += 1;
        continue;
      }
      imageRoom -= sizeOf(images);
      const shown = imageRoom < 0 ? [] : images;
      cut.images += images.length - shown.length + imagesLost;
      messages.unshift({ role: "user", content: contentOf(prompt || "(an image)", shown) }, { role: "assistant", content: text });
    }
    if (turn.system) messages.unshift({ role: "system", content: turn.system });
    return { messages, cut: cut.turns || cut.images ? cut : undefined };
  }

  #follow(turn, sentAt) {
    this.#followers.get(turn)?.close();
    turn.text = turn.reasoning = "";
    const follower = new Follower(turn.stream, (values) => this.#absorb(turn, values), sentAt);
    this.#followers.set(turn, follower);
  }

  async #check(turn) {
    const { stream } = turn;
    let values = null;
    try {
      const record = await headrace.record(stream);
      if (isFinal(record.status)) values = answerOf(record);
    } catch (problem) {
      if (problem.status === 404) values = { status: "expired", away: false };
    }
    if (values && turn.stream === stream) this.#absorb(turn, values);
  }

  #absorb(turn, values) {
    if (this.#closed) return;
    const before = shownStatus(turn);
    Object.assign(turn, values, { model: values.model ?? turn.model });
    if (isFinal(turn.status)) {
      if (this.#followers.delete(turn)) {
        this.chat.updated = Date.now();
        if (hasChat(this.chat.id)) saveHead(this.chat);
      }
      this.#keep(turn);
    }
    this.#tell(turn, before !== shownStatus(turn));
  }

  #change(turn, values) {
    if (this.#closed) return;
    Object.assign(turn, values);
    this.#keep(turn);
    this.#tell(turn, true);
  }

  #tell(turn, moved) {
    if (!this.#closed) this.#onTurn(turn, moved);
  }

  #keep(turn) {
    if (hasChat(this.chat.id)) saveTurn(this.chat.id, turn); // a deleted one stays deleted
  }
}

const sizeOf = (images = []) => images.reduce((sum, image) => sum + image.data.length, 0);

function contentOf(prompt, images) {
  if (!images.length) return prompt;
  const parts = images.map(({ data, media_type }) => ({ type: "image", data, media_type }));
  return prompt ? [{ type: "text", text: prompt }, ...parts] : parts;
}
