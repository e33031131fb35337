// What this browser remembers: conversations, in localStorage. The truth about an answer is its record on the
// server; here are the questions, the stream ids and, for after the record's expiry, a copy of finished texts.
//
// One key a conversation, so that two tabs never overwrite each other's. A conversation is
// {id, title, updated (ms), turns: [turn]}, a turn
// {key, prompt, model, stream, status, text?, reasoning?, tools?, stats?, finish?, error?}
// where `key` is the Idempotency-Key under which it is sent, and `stream` is null until the server took it.

const PREFIX = "headrace:chat:";
const MAX_CHATS = 50; // what a list is still read for
const MAX_TURNS = 100; // each is a request when the conversation opens
const MAX_KEPT = 20_000; // characters of an answer; longer ones live in their record alone

/** An RFC 9562 version 4 UUID. (`crypto.randomUUID` is missing on plain http other than localhost.) */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** An empty conversation; it is kept once it has a turn. */
export const newChat = () => ({ id: uuid().slice(0, 8), title: "", updated: Date.now(), turns: [] });

/** All conversations, the newest first. */
export function listChats() {
  const chats = [];
  for (let at = 0; at < localStorage.length; at += 1) {
    const key = localStorage.key(at);
    const chat = key.startsWith(PREFIX) && readChat(key.slice(PREFIX.length));
    if (chat) chats.push(chat);
  }
  return chats.sort((a, b) => b.updated - a.updated);
}

/** One conversation, or null: never kept, deleted, or not readable. */
export function readChat(id) {
  try {
    const chat = JSON.parse(localStorage.getItem(PREFIX + id));
    return Array.isArray(chat?.turns) ? chat : null;
  } catch {
    return null;
  }
}

/** Keep a conversation; the oldest ones make room for it. Without any storage it lives in this page alone. */
export function saveChat(chat) {
  chat.turns.splice(0, chat.turns.length - MAX_TURNS);
  const kept = { ...chat, turns: chat.turns.map(trimmed) };
  const others = listChats().filter((other) => other.id !== chat.id);
  while (others.length >= MAX_CHATS) removeChat(others.pop().id);
  for (;;) {
    try {
      localStorage.setItem(PREFIX + chat.id, JSON.stringify(kept));
      return;
    } catch {
      if (!others.length) return;
      removeChat(others.pop().id);
    }
  }
}

const trimmed = (turn) =>
  (turn.text?.length ?? 0) + (turn.reasoning?.length ?? 0) > MAX_KEPT
    ? { ...turn, text: undefined, reasoning: undefined }
    : turn;

/** Forget a conversation. */
export const removeChat = (id) => localStorage.removeItem(PREFIX + id);

/** The conversation that a `storage` event of another tab is about, or null. */
export const changedChat = (event) => (event.key?.startsWith(PREFIX) ? event.key.slice(PREFIX.length) : null);

/** A small setting (`model`, `open`); null when there is none. */
export const recall = (name) => localStorage.getItem(`headrace:${name}`);

/** Keep a small setting. */
export function remember(name, value) {
  try {
    localStorage.setItem(`headrace:${name}`, value);
  } catch {
    // A full storage loses a preference, never a question.
  }
}
