// The chat page: wires the conversation on screen to its views, the composer and the list.

import { TurnView } from "./answer.js";
import { headrace } from "./api.js";
import { Composer, isComposing } from "./composer.js";
import { Conversation, isLive, sentence, shownStatus } from "./conversation.js";
import { Instructions } from "./instructions.js";
import { chosenModel, hasModel, loadModels } from "./models.js";
import { Sidebar } from "./sidebar.js";
import { changedChat, hasChat, listChats, losses, readChat, readTurn, recall, remember, removeChat, saveTurn } from "./store.js";
import { isFinal } from "./stream.js";

const SLEPT_MS = 20_000; // after the page was hidden for longer, a connection may be dead without a sign
const LIVE_MS = 5_000; // between two looks at the records of running answers in other conversations
const TOAST_MS = 5_000;
const NEAR_PX = 48; // a reader this close to the end is reading along

const $ = (selector) => document.querySelector(selector);
const scroll = $("#scroll");
const sidebar = new Sidebar(deleteChat);
const composer = new Composer(send, toast);
const instructions = new Instructions((values) => {
  open.conversation.instruct(values);
  instructions.show(open.conversation.chat);
});
const follow = { end: true, top: 0 }; // whether the page keeps the end in view, and its scroll position

// --- conversations ------------------------------------------------------------------------------------------

/** A conversation on screen. Once it is closed, events that come late change nothing on screen. */
class ChatView {
  #views = new Map(); // turn -> TurnView

  constructor(id) {
    this.conversation = new Conversation(id, (turn, moved) => this.#onTurn(turn, moved));
    for (const turn of this.conversation.turns) this.#show(turn);
  }

  get chat() {
    return this.conversation.chat;
  }

  /** The name of its draft. All conversations without a turn share one draft. */
  get draft() {
    return this.chat.turns.length ? this.chat.id : "new";
  }

  close() {
    this.conversation.close();
    for (const view of this.#views.values()) view.close();
    $("#turns").replaceChildren();
  }

  /** The turn that an element belongs to. */
  turnOf(node) {
    return [...this.#views].find(([, view]) => view.element.contains(node))[0];
  }

  #show(turn) {
    const view = new TurnView(turn, keepEnd);
    const next = this.conversation.turns[this.conversation.turns.indexOf(turn) + 1];
    const before = this.#views.get(next)?.element ?? null;
    this.#views.set(turn, view);
    $("#turns").insertBefore(view.element, before);
  }

  #onTurn(turn, moved) {
    if (!this.#views.has(turn)) this.#show(turn);
    this.#views.get(turn).update();
    if (!moved) return;
    refresh();
    if (turn === this.conversation.turns.at(-1)) announce(turn);
  }
}

let open = new ChatView("");

function openChat(id) {
  open.close();
  open = new ChatView(id);
  remember("open", open.chat.id);
  follow.end = true;
  open.conversation.resume();
  composer.open(open.draft);
  instructions.show(open.chat);
  refresh();
  keepEnd();
  sidebar.close();
}

function startNew() {
  history.pushState(null, "", "#chat"); // not the id of an element: the browser would focus that
  openChat("new");
  composer.focus();
}

async function deleteChat(id) {
  const streams = readChat(id)?.turns.map((turn) => turn.stream).filter(Boolean) ?? [];
  const ignoreMissing = (problem) => problem.status === 404 || Promise.reject(problem);
  try {
    await Promise.all(streams.map((stream) => headrace.erase(stream).catch(ignoreMissing)));
  } catch (problem) {
    toast(`Not deleted. ${sentence(problem)}`);
    return;
  }
  removeChat(id);
  if (id === open.chat.id) startNew();
  else refresh();
}

// --- turns --------------------------------------------------------------------------------------------------

function send(text, images) {
  if (!hasModel() || !open.conversation.send(text, images, chosenModel())) return null;
  history.replaceState(null, "", `#${open.chat.id}`);
  remember("open", open.chat.id);
  follow.end = true;
  keepEnd();
  return open.draft;
}

async function stop() {
  try {
    await open.conversation.stop();
  } catch (problem) {
    toast(`Not stopped. ${sentence(problem)}`);
  }
}

$("#turns").addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const turn = open.turnOf(button);
  const { action } = button.dataset;
  if (action === "copy") copy(turn.text ?? "", "Answer copied.");
  if (action === "curl") copyCurl(turn.stream);
  if (action === "copy-code") copy(button.closest("figure").querySelector("code").textContent, "Code copied.");
  if (action === "again" && hasModel()) open.conversation.again(turn, chosenModel());
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !isComposing(event) && !$("dialog[open]") && open.conversation.active) stop();
});
// The second click of a double click on "send" hits "stop"; it is ignored.
$("#stop").addEventListener("click", (event) => event.detail < 2 && stop());
$("#new").addEventListener("click", startNew);
$("#new-small").addEventListener("click", startNew);
$("#starters").addEventListener("click", (event) => event.target.closest("button") && composer.ask(event.target.textContent));

// --- what the reader sees and hears -------------------------------------------------------------------------

function refresh() {
  const { chat, active, isBusy } = open.conversation;
  sidebar.show(listChats(), chat.id);
  $("#empty").hidden = chat.turns.length > 0;
  $("#title").textContent = chat.title || "New chat";
  document.title = chat.title ? `${chat.title} · Headrace` : "Headrace";
  $("#stop").hidden = !active;
  $("#send").hidden = isBusy;
  const lost = losses();
  $("#notice").hidden = !lost;
  if ($("#notice").textContent !== lost) $("#notice").textContent = lost;
}

function announce(turn) {
  const words = {
    queued: "Sent.",
    thinking: "Thinking.",
    streaming: "Answering.",
    reconnecting: "Reconnecting.",
    done: "The answer is complete.",
    cancelled: "Stopped.",
  };
  $("#status").textContent = words[shownStatus(turn)] ?? turn.error ?? "";
}

function toast(text) {
  clearTimeout(toast.timer);
  $("#toast").textContent = text;
  toast.timer = setTimeout(() => ($("#toast").textContent = ""), TOAST_MS);
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    toast("The browser lets a page copy on https and localhost only.");
  }
}

async function copyCurl(id) {
  // The link has a read token where one is needed; without a token it is still better than no link.
  const { events_url: path } = await headrace.links(id).catch(() => ({ events_url: `/v1/streams/${id}/events` }));
  copy(`curl -N '${headrace.resolve(path)}'`, "curl command copied.");
}

// --- scrolling: keep the end in view, unless the reader scrolled up ----------------------------------------

function keepEnd() {
  if (follow.end) scroll.scrollTop = scroll.scrollHeight;
  else $("#jump").hidden = isNearEnd();
}

const isNearEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_PX;

scroll.addEventListener("scroll", () => {
  // Growing text moves the end away from the reader; only scrolling up is done by the reader.
  if (isNearEnd()) follow.end = true;
  else if (scroll.scrollTop < follow.top) follow.end = false;
  follow.top = scroll.scrollTop;
  $("#jump").hidden = follow.end;
}, { passive: true });
$("#jump").addEventListener("click", () => {
  follow.end = true;
  scroll.scrollTo({ top: scroll.scrollHeight });
});
new ResizeObserver(keepEnd).observe(scroll);

// --- the world outside --------------------------------------------------------------------------------------

const slept = { since: 0 };
document.addEventListener("visibilitychange", () => {
  if (document.hidden) slept.since = Date.now();
  else if (Date.now() - slept.since > SLEPT_MS) open.conversation.reconnect();
});
// After the network was away, an old connection may be silent; a server on this machine can be reached again at once.
for (const change of ["online", "offline"]) window.addEventListener(change, () => open.conversation.reconnect());
window.addEventListener("online", () => open.conversation.resend());
window.addEventListener("pageshow", (event) => event.persisted && open.conversation.reconnect());
window.addEventListener("hashchange", () => location.hash.slice(1) !== open.chat.id && openChat(location.hash.slice(1)));
window.addEventListener("storage", (event) => {
  const isMine = event.key === null || changedChat(event) === open.chat.id;
  if (isMine && !open.conversation.reread()) openChat("new");
  else if (isMine || changedChat(event)) refresh();
});

// On iOS an open keyboard covers the page instead of making it smaller.
window.visualViewport?.addEventListener("resize", () => {
  const covered = window.innerHeight - window.visualViewport.height > 1 && window.visualViewport.scale === 1;
  document.documentElement.style.setProperty("--height", covered ? `${window.visualViewport.height}px` : "100dvh");
});

async function lookAtOthers() {
  const others = document.hidden ? [] : listChats().filter((chat) => chat.id !== open.chat.id && isLive(chat));
  for (const { id, turns } of others.slice(0, 3)) {
    const turn = turns.find((each) => each.stream && !isFinal(each.status));
    const status = await headrace.record(turn.stream).then((record) => record.status, (problem) => problem.status === 404 && "expired");
    const kept = hasChat(id) && readTurn(id, turn);
    if (!isFinal(status) || id === open.chat.id || kept?.stream !== turn.stream) continue;
    saveTurn(id, { ...kept, status });
    refresh();
  }
  setTimeout(lookAtOthers, LIVE_MS);
}

openChat(location.hash.slice(1) || recall("open") || "");
loadModels();
lookAtOthers();
if (matchMedia("(pointer: fine)").matches) composer.focus();
