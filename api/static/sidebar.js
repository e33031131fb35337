// The list of conversations: a column beside the chat, a drawer on a phone.

import { isLive } from "./conversation.js";
import { element, iconButton } from "./dom.js";

const SURE_MS = 3_000; // the time that a delete button waits for the second press

const ageOf = (ms) => {
  const minutes = Math.round((Date.now() - ms) / 60_000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 24 * 60) return `${Math.round(minutes / 60)} h`;
  return new Date(ms).toLocaleDateString(undefined, { day: "numeric", month: "short" });
};

/** Shows conversations, and calls `onDelete(id)` after a delete button was pressed twice. */
export class Sidebar {
  #aside = document.querySelector("#sidebar");
  #veil = document.querySelector("#veil");
  #menu = document.querySelector("#menu");
  #main = document.querySelector("main");
  #list = document.querySelector("#chats");

  constructor(onDelete) {
    this.#menu.addEventListener("click", () => this.#toggle(true));
    this.#veil.addEventListener("click", () => this.close());
    this.#aside.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    this.#list.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action=delete]");
      if (!button) this.close();
      else if (button.dataset.sure) onDelete(button.dataset.chat);
      else this.#ask(button);
    });
  }

  /** Draw `chats`, the newest first; `open` is the id of the conversation on screen. */
  show(chats, open) {
    const focused = this.#list.contains(document.activeElement) && document.activeElement.dataset.chat;
    this.#list.replaceChildren(...chats.map((chat) => row(chat, chat.id === open)));
    if (focused) this.#list.querySelector(`[data-chat="${focused}"]`)?.focus();
  }

  /** Close the list, if it is an open drawer. */
  close() {
    this.#toggle(false);
  }

  #toggle(open) {
    if (open === !this.#veil.hidden) return;
    this.#veil.hidden = !open;
    this.#main.inert = open;
    this.#aside.classList.toggle("open", open);
    this.#menu.setAttribute("aria-expanded", String(open));
    if (open) this.#aside.querySelector("#new").focus();
    else if (this.#aside.contains(document.activeElement)) this.#menu.focus();
  }

  #ask(button) {
    button.dataset.sure = "yes";
    button.append("Delete");
    button.setAttribute("aria-label", "Press again to delete");
    setTimeout(() => button.replaceWith(deleteButton(button.dataset.chat)), SURE_MS);
  }
}

function row(chat, isOpen) {
  const link = element("a", "", name(chat), element("time", "", ageOf(chat.updated)));
  link.href = `#${chat.id}`;
  link.dataset.chat = chat.id;
  if (isOpen) link.setAttribute("aria-current", "page");
  const item = element("li", "", link, deleteButton(chat.id));
  if (isLive(chat)) {
    item.className = "live";
    link.querySelector("time").textContent = "live";
  }
  return item;
}

function name(chat) {
  const shown = element("span", "name", chat.title || "Untitled");
  shown.dir = "auto";
  return shown;
}

function deleteButton(id) {
  const button = iconButton("trash", "delete", "Delete this conversation and its streams");
  button.dataset.chat = id;
  return button;
}
