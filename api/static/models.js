// The choice of a model: one that the server lists, or any name at a provider that lists none (`provider/*`).

import { headrace } from "./api.js";
import { recall, remember } from "./store.js";

const TRIES = 10; // about eight minutes

const $ = (selector) => document.querySelector(selector);
const providerOf = (id) => id.split("/")[0];
const nameOf = (id) => id.split("/").slice(1).join("/") || id;
const isOpen = (id) => id.endsWith("/*");

/** The model to ask for; undefined leaves it to the server. */
export function chosenModel() {
  const { value } = $("#model");
  return isOpen(value) ? `${providerOf(value)}/${$("#model-other").value.trim()}` : value || undefined;
}

/** Whether the model has a name; if not, it asks the reader for one. */
export function hasModel() {
  const other = $("#model-other");
  return other.hidden || other.reportValidity();
}

/** Fill the list. Until the models are known, the server's default model is used. */
export async function loadModels(tries = 0) {
  try {
    const { default: usual, models } = await headrace.models();
    show(usual, models.map(({ id }) => id));
  } catch {
    if (tries < TRIES) setTimeout(() => loadModels(tries + 1), Math.min(60_000, 1_000 * 2 ** tries));
  }
}

function show(usual, offered) {
  const named = offered.filter((id) => !isOpen(id) && id !== usual);
  if (offered.some((id) => id === usual || id === `${providerOf(usual)}/*`)) named.unshift(usual);
  const ids = [...named, ...offered.filter(isOpen)];
  const wanted = recall("model") ?? "";
  const typed = !named.includes(wanted) && ids.includes(`${providerOf(wanted)}/*`) && !isOpen(wanted);
  const chosen = typed ? `${providerOf(wanted)}/*` : named.includes(wanted) ? wanted : ids.includes(usual) ? usual : ids[0];
  const twice = (id) => named.some((other) => other !== id && nameOf(other) === nameOf(id));
  const label = (id) => (isOpen(id) ? `${providerOf(id)}: another model…` : twice(id) ? id : nameOf(id));
  $("#model").replaceChildren(...ids.map((id) => new Option(label(id), id, false, id === chosen)));
  $("#model").hidden = ids.length < 2 && !ids.some(isOpen);
  $("#model-name").textContent = ids.length === 1 && !isOpen(ids[0]) ? nameOf(ids[0]) : "";
  if (typed) $("#model-other").value = nameOf(wanted);
  showOther();
}

/** Show the field for a name only where one is needed. A hidden field must not block the form. */
function showOther() {
  const { value } = $("#model");
  const other = $("#model-other");
  other.hidden = !isOpen(value);
  other.required = !other.hidden;
}

$("#model").addEventListener("change", () => {
  $("#model-other").value = "";
  showOther();
  if (isOpen($("#model").value)) $("#model-other").focus();
  else remember("model", $("#model").value);
});
$("#model-other").addEventListener("change", () => $("#model-other").value.trim() && remember("model", chosenModel()));
