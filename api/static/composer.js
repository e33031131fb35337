// The composer: the text and images of a question, and the draft of both.

import { element, iconButton } from "./dom.js";
import { drawImage, readImage } from "./images.js";
import { readDraft, saveDraft } from "./store.js";

const MAX_IMAGES = 3; // as many as fit into a request with the text
const NOTHING = { text: "", images: [] };

const $ = (selector) => document.querySelector(selector);
const input = $("#prompt");
const form = $("#composer");

/** Whether a key press belongs to an input method. (Safari ends the composition before the key, but reports code 229.) */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/**
 * The composer. `onSend(text, images)` returns the name of the next draft, or null if the question was not accepted;
 * `onProblem(sentence)` tells the reader what went wrong.
 */
export class Composer {
  #chat = null;
  #images = [];
  #reading = new Set(); // files that become images of this draft
  #onSend;
  #onProblem;

  constructor(onSend, onProblem) {
    this.#onSend = onSend;
    this.#onProblem = onProblem;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    input.addEventListener("input", () => this.#changed());
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    $("#attach").addEventListener("click", () => $("#file").click());
    $("#file").addEventListener("change", ({ target }) => {
      this.#attach([...target.files]);
      target.value = "";
    });
    input.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    form.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
    form.addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
    new ResizeObserver(() => this.fit()).observe(form);
  }

  /** Show the draft of a conversation. */
  open(chat) {
    this.#chat = chat;
    this.#reading = new Set();
    this.#show(readDraft(chat));
  }

  /** Ask this question, and keep the draft. */
  ask(text) {
    if (this.#send(text, [])) this.#changed();
  }

  focus() {
    input.focus();
  }

  /** Make the field as high as its text. */
  fit() {
    $("#send").disabled = this.#reading.size > 0 || (!input.value.trim() && !this.#images.length);
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  }

  #submit() {
    if (this.#reading.size) return; // they belong to the question
    if (this.#send(input.value, this.#images)) this.#show(NOTHING);
  }

  /** Out: whether the question was accepted. */
  #send(text, images) {
    const next = this.#onSend(text, images);
    if (next === null) return false;
    saveDraft(this.#chat, NOTHING);
    this.#chat = next;
    return true;
  }

  #show({ text, images }) {
    input.value = text;
    this.#images = images;
    this.#showImages();
    this.fit();
  }

  #changed() {
    saveDraft(this.#chat, { text: input.value, images: this.#images });
    this.fit();
  }

  #take(event, { files }) {
    const images = [...files].filter((file) => file.type.startsWith("image/"));
    if (!images.length) return;
    event.preventDefault();
    this.#attach(images);
  }

  async #attach(files) {
    const reading = this.#reading;
    const room = MAX_IMAGES - this.#images.length - reading.size;
    if (files.length > room) this.#onProblem(`A question takes ${MAX_IMAGES} images.`);
    const taken = files.slice(0, room);
    for (const file of taken) reading.add(file);
    this.fit();
    for (const file of taken) {
      const image = await readImage(file).catch(() => null);
      reading.delete(file);
      if (this.#reading !== reading) return; // another conversation is open by now
      if (image) this.#images = [...this.#images, image];
      else this.#onProblem(`${file.name || "This"} is no image that the browser can read.`);
      this.#showImages();
      this.#changed();
    }
  }

  #showImages() {
    const shown = this.#images.map((image) => {
      const remove = iconButton("close", "remove", "Remove the image");
      remove.addEventListener("click", () => {
        this.#images = this.#images.filter((each) => each !== image);
        this.#showImages();
        this.#changed();
        input.focus();
      });
      return element("span", "thumb", drawImage(image), remove);
    });
    $("#images").hidden = !shown.length;
    $("#images").replaceChildren(...shown);
  }
}
