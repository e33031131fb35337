// The chat page: wires the conversation on screen to its views, the composer and the list.

import { TurnView } from "./answer.js";
import { headrace } from "./api.js";
import { Conversation, isLive, sentence, shownStatus } from "./conversation.js";
import { chosenModel, hasModel, loadModels } from "./models.js";
import { Sidebar } from "./sidebar.js";
import { changedChat, listChats, readChat, recall, remember, removeChat, saveChat } from "./store.js";
import { isFinal } from "./stream.js";

const SLEPT_MS = 20_000; // hidden longer than this, a connection may be dead without a sign
const LIVE_MS = 5_000; // how often the records of answers in other conversations are looked at
const TOAST_MS = 5_000;
const NEAR_PX = 48; // so close to the end counts as reading along

const $ = (selector) => document.querySelector(selector);
const input = $("#prompt");
const scroll = $("#scroll");
const views = new Map(); // turn -> TurnView
const sidebar = new Sidebar(deleteChat);
const follow = { end: true, top: 0 }; // whether the page keeps the end in view, and where it was scrolled to
let open = new Conversation("", onTurn);

// --- conversations ------------------------------------------------------------------------------------------

function openChat(id) {
  open.close();
  views.clear();
  $("#turns").replaceChildren();
  open = new Conversation(id, onTurn);
  remember("open", open.chat.id);
  follow.end = true;
  for (const turn of open.turns) showTurn(turn);
  open.resume();
  refresh();
  sidebar.close();
}

function startNew() {
  history.pushState(null, "", "#new");
  openChat("new");
  input.focus();
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

function showTurn(turn) {
  const view = new TurnView(turn, keepEnd);
  views.set(turn, view);
  $("#turns").append(view.element);
}

function onTurn(turn, moved) {
  if (!views.has(turn)) showTurn(turn);
  views.get(turn).update();
  if (!moved) return;
  refresh();
  if (turn === open.turns.at(-1)) announce(turn);
}

function send(text) {
  if (!hasModel() || !open.send(text, chosenModel())) return false;
  history.replaceState(null, "", `#${open.chat.id}`);
  remember("open", open.chat.id);
  follow.end = true;
  keepEnd();
  return true;
}

async function stop() {
  try {
    await open.stop();
  } catch (problem) {
    toast(`Not stopped. ${sentence(problem)}`);
  }
}

$("#turns").addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const turn = [...views].find(([, view]) => view.element.contains(button))[0];
  const { action } = button.dataset;
  if (action === "copy") copy(turn.text ?? "", "Answer copied.");
  if (action === "curl") copyCurl(turn.stream);
  if (action === "copy-code") copy(button.closest("figure").querySelector("code").textContent, "Code copied.");
  if (action === "again" && hasModel()) open.again(turn, chosenModel());
});

// --- composer -----------------------------------------------------------------------------------------------

function fit() {
  $("#send").disabled = !input.value.trim();
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

$("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (send(input.value)) input.value = "";
  fit();
});
input.addEventListener("input", fit);
input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("#composer").requestSubmit();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && open.active && stop());
// The second click of a double click on "send" lands on "stop", and means nothing.
$("#stop").addEventListener("click", (event) => event.detail < 2 && stop());
$("#new").addEventListener("click", startNew);
$("#new-small").addEventListener("click", startNew);
$("#starters").addEventListener("click", (event) => event.target.closest("button") && send(event.target.textContent));

// --- what the reader sees and hears -------------------------------------------------------------------------

function refresh() {
  const { chat, active } = open;
  sidebar.show(listChats(), chat.id);
  $("#empty").hidden = chat.turns.length > 0;
  $("#title").textContent = chat.title || "New chat";
  document.title = chat.title ? `${chat.title} · Headrace` : "Headrace";
  $("#stop").hidden = !active;
  $("#send").hidden = Boolean(active);
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
  // With a token where one is needed; a link without one is still better than none.
  const { events_url: path } = await headrace.links(id).catch(() => ({ events_url: `/v1/streams/${id}/events` }));
  copy(`curl -N '${location.origin}${path}'`, "curl command copied.");
}

// --- scrolling: along with the end, unless the reader went up ----------------------------------------------

function keepEnd() {
  if (follow.end) scroll.scrollTop = scroll.scrollHeight;
  else $("#jump").hidden = isNearEnd();
}

const isNearEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_PX;

scroll.addEventListener("scroll", () => {
  // Text that grows moves the end away from the reader; only a way up is the reader's own.
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
  else if (Date.now() - slept.since > SLEPT_MS) open.reconnect();
});
// A network that went away may hold a connection silently; one to this very machine goes on at once.
for (const change of ["online", "offline"]) window.addEventListener(change, () => open.reconnect());
window.addEventListener("online", () => open.resend());
window.addEventListener("pageshow", (event) => event.persisted && open.reconnect());
window.addEventListener("hashchange", () => location.hash.slice(1) !== open.chat.id && openChat(location.hash.slice(1)));
window.addEventListener("storage", (event) => {
  const id = changedChat(event);
  if (!id) return;
  const mine = open.turns.map((turn) => turn.key + turn.stream).join();
  const theirs = readChat(id)?.turns.map((turn) => turn.key + turn.stream).join();
  if (id === open.chat.id && mine !== theirs) openChat(id);
  else refresh();
});

// An open keyboard of iOS covers the page instead of making it smaller.
window.visualViewport?.addEventListener("resize", () => {
  const covered = window.innerHeight - window.visualViewport.height > 1 && window.visualViewport.scale === 1;
  document.documentElement.style.setProperty("--height", covered ? `${window.visualViewport.height}px` : "100dvh");
});

async function lookAtOthers() {
  const others = document.hidden ? [] : listChats().filter((chat) => chat.id !== open.chat.id && isLive(chat));
  for (const chat of others.slice(0, 3)) {
    const turn = chat.turns.find((each) => each.stream && !isFinal(each.status));
    const status = await headrace.record(turn.stream).then((record) => record.status, (problem) => problem.status === 404 && "expired");
    if (isFinal(status)) saveChat(Object.assign(chat, { turns: chat.turns.map((each) => (each === turn ? { ...each, status } : each)) }));
    if (isFinal(status)) refresh();
  }
  setTimeout(lookAtOthers, LIVE_MS);
}

openChat(location.hash.slice(1) || recall("open") || "");
loadModels();
fit();
lookAtOthers();
if (matchMedia("(pointer: fine)").matches) input.focus();
