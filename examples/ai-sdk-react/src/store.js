// What the page keeps: the chat's id, and its messages. `loaded` tells one loading from the next.
const ID = "chat", MESSAGES = "messages";

export function loadChat() {
  const id = localStorage.getItem(ID) ?? crypto.randomUUID();
  localStorage.setItem(ID, id);
  return { loaded: crypto.randomUUID(), id, messages: JSON.parse(localStorage.getItem(MESSAGES) ?? "[]") };
}

export function saveMessages(messages) {
  localStorage.setItem(MESSAGES, JSON.stringify(messages));
}

export function forgetChat() {
  localStorage.removeItem(ID);
  localStorage.removeItem(MESSAGES);
}
