// The storage of this browser: conversations, settings, drafts and the key. The truth about an answer is its record on
// the server. Stored here are the questions, the stream ids and, for the time after the record's expiry, a copy of
// finished texts.
//
// Theory of operation. Two tabs may write at the same moment, and a Storage has no transactions. So each turn has an
// entry of its own, which one tab writes at a time, and a conversation is the list of its turns' entries in the order
// of their time. So a list that one tab has read earlier can't overwrite an entry that another tab has written.
// A browser may deny the storage, or have no room left. Entries that it does not take live only in this page, and
// `losses` tells of them.
//
// A conversation is {id, title, updated (ms), system?, temperature?, turns: [turn]}, a turn
// {id, at (ms), key, prompt, images?, system?, temperature?, model, stream, status, text?, reasoning?, tools?, stats?,
// finish?, error?, cut?} where `key` is the Idempotency-Key under which it is sent, and `stream` is null until the
// server has accepted it.

const HEAD = "headrace:chat:";
const TURN = "headrace:turn:"; // + conversation + ":" + turn
const MAX_CHATS = 50; // nobody reads a longer list
const MAX_TURNS = 100; // each is a request when the conversation opens
const MAX_KEPT = 20_000; // characters of an answer; a longer one is only in its record

/** A Storage that may be denied or full. */
class Shelf {
  #storage = null;
  #loose = new Map(); // entries that are only in this page

  constructor(open) {
    try {
      this.#storage = open();
    } catch {
      // denied: the property itself throws
    }
  }

  get isDenied() {
    return !this.#storage;
  }

  /** The number of entries that the storage did not take. */
  get lost() {
    return this.#loose.size;
  }

  get(name) {
    return this.#loose.get(name) ?? this.#storage?.getItem(name) ?? null;
  }

  /** Out: whether the storage took it. */
  set(name, value) {
    try {
      this.#storage.setItem(name, value);
    } catch {
      this.#loose.set(name, value);
      return false;
    }
    this.#loose.delete(name);
    this.#settle();
    return true;
  }

  remove(name) {
    this.#loose.delete(name);
    this.#storage?.removeItem(name);
    this.#settle();
  }

  /** Keep what had no room before, as far as there is room by now. */
  #settle() {
    for (const [name, value] of this.#loose) {
      try {
        this.#storage.setItem(name, value);
      } catch {
        return;
      }
      this.#loose.delete(name);
    }
  }

  names() {
    const kept = this.#storage ? Array.from({ length: this.#storage.length }, (_, at) => this.#storage.key(at)) : [];
    return new Set([...kept, ...this.#loose.keys()]);
  }
}

/** The storage of this device, and that of this tab. */
export const device = new Shelf(() => window.localStorage);
export const tab = new Shelf(() => window.sessionStorage);

/** The sentence about entries that could not be stored; "" if all were. */
export function losses() {
  if (device.isDenied) return "This browser lets the page keep nothing: the list, your questions and drafts are gone when this tab closes.";
  return device.lost ? "This browser's storage is full: what is new here is gone when this tab closes. Delete a conversation to make room." : "";
}

/** An RFC 9562 version 4 UUID. (`crypto.randomUUID` is missing on plain http other than localhost.) */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** An empty conversation; it is stored once it has a turn. */
export const newChat = () => ({ id: uuid().slice(0, 8), title: "", updated: Date.now(), turns: [] });

function read(shelf, name) {
  try {
    return JSON.parse(shelf.get(name));
  } catch {
    return null;
  }
}

const turnName = (id, turn) => `${TURN}${id}:${turn.id}`;
const inOrder = (a, b) => a.at - b.at || (a.id < b.id ? -1 : 1);

function readTurns(names) {
  return names.map((name) => read(device, name)).filter((turn) => turn?.id && typeof turn.prompt === "string").sort(inOrder);
}

/** All conversations, the newest first. */
export function listChats() {
  const turns = new Map();
  const heads = [];
  for (const name of device.names()) {
    if (name.startsWith(HEAD)) heads.push(name.slice(HEAD.length));
    else if (name.startsWith(TURN)) {
      const id = name.slice(TURN.length).split(":")[0];
      turns.set(id, [...(turns.get(id) ?? []), name]);
    }
  }
  const chats = heads.map((id) => ({ ...read(device, HEAD + id), id, turns: readTurns(turns.get(id) ?? []) }));
  return chats.filter((chat) => chat.updated).sort((a, b) => b.updated - a.updated);
}

/** One conversation, or null if it was never stored, was deleted, or can't be read. */
export function readChat(id) {
  const head = id && read(device, HEAD + id);
  if (!head) return null;
  const mine = [...device.names()].filter((name) => name.startsWith(`${TURN}${id}:`));
  return { ...head, id, turns: readTurns(mine) };
}

/** Whether a conversation is stored. */
export const hasChat = (id) => device.get(HEAD + id) !== null;

/** Store the fields of a conversation, without its turns. */
export function saveHead({ id, title, updated, system, temperature }) {
  put(id, HEAD + id, [JSON.stringify({ title, updated, system, temperature })]);
  for (const { id: old } of listChats().slice(MAX_CHATS)) removeChat(old);
}

/** Store one turn. An answer that is too long is not copied; if there is little room, images are left out first. */
export function saveTurn(id, turn) {
  const isLong = (turn.text?.length ?? 0) + (turn.reasoning?.length ?? 0) > MAX_KEPT;
  const kept = isLong ? { ...turn, text: undefined, reasoning: undefined } : turn;
  const values = [JSON.stringify(kept)];
  if (turn.images) values.push(JSON.stringify({ ...kept, images: undefined, imagesLost: turn.images.length }));
  put(id, turnName(id, turn), values);
}

/** Store the first of these values for which there is room; the oldest conversations are deleted to make room. */
function put(id, name, values) {
  if (values.some((value) => device.set(name, value)) || device.isDenied) return;
  const others = listChats().filter((other) => other.id !== id);
  while (others.length) {
    removeChat(others.pop().id);
    if (values.some((value) => device.set(name, value))) return;
  }
  device.set(name, values[0]); // the complete value stays in this page
}

/** The stored entry of a turn, from another tab or an earlier page; null if it is gone. */
export const readTurn = (id, turn) => read(device, turnName(id, turn));

/** Delete the oldest turns of a long conversation. */
export function trim(chat) {
  for (const turn of chat.turns.splice(0, chat.turns.length - MAX_TURNS)) device.remove(turnName(chat.id, turn));
}

/** Delete a conversation. */
export function removeChat(id) {
  for (const name of device.names()) if (name === HEAD + id || name.startsWith(`${TURN}${id}:`)) device.remove(name);
}

/** The conversation that a `storage` event of another tab is about, or null. */
export function changedChat({ key }) {
  if (key?.startsWith(HEAD)) return key.slice(HEAD.length);
  return key?.startsWith(TURN) ? key.slice(TURN.length).split(":")[0] : null;
}

/** A small setting (`model`, `open`); null when there is none. */
export const recall = (name) => device.get(`headrace:${name}`);

/** Store a small setting. */
export const remember = (name, value) => device.set(`headrace:${name}`, value);

/** A draft, written and not sent: `{text, images}`. It belongs to this tab and survives a reload. */
export const readDraft = (id) => read(tab, `headrace:draft:${id}`) ?? { text: "", images: [] };

/** Store a draft; without its images if there is no room for them. */
export function saveDraft(id, { text, images }) {
  const name = `headrace:draft:${id}`;
  if (!text && !images.length) tab.remove(name);
  else if (!tab.set(name, JSON.stringify({ text, images })) && images.length) tab.set(name, JSON.stringify({ text, images: [] }));
}
