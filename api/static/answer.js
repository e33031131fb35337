// One turn as DOM: the question, and the answer as it comes. It draws at most once a frame, and redraws only the tail
// of the text that still changes.

import { shownStatus } from "./conversation.js";
import { element, icon, iconButton, write } from "./dom.js";
import { drawImage } from "./images.js";
import { Prose } from "./prose.js";
import { isFinal } from "./stream.js";

const WORDS = {
  sending: "Sending",
  unsent: "Not sent",
  queued: "Queued",
  waiting: "Waiting for its turn",
  paused: "Paused",
  thinking: "Thinking",
  streaming: "Streaming",
  reconnecting: "Reconnecting…",
  cancelled: "Stopped",
  failed: "Failed",
  expired: "Expired",
};
const STATS_MS = 250; // figures that change faster can't be read

/** Shows one turn. Call `update()` after each change of the turn; put `element` into the page. */
export class TurnView {
  #turn;
  #frame = 0;
  #statsAt = 0;
  #onPaint;
  #parts;
  #prose;

  constructor(turn, onPaint) {
    this.#turn = turn;
    this.#onPaint = onPaint;
    const bubble = element("div", "bubble", turn.prompt);
    bubble.dir = "auto";
    bubble.hidden = !turn.prompt;
    const question = element("article", "question", element("div", "shown", ...(turn.images ?? []).map(drawImage)), bubble);
    question.setAttribute("aria-label", "You");
    this.#parts = this.#build();
    this.#prose = new Prose(this.#parts.prose);
    this.element = element("section", "turn", question, this.#parts.answer);
    this.#paint();
  }

  /** Draw in the next frame. */
  update() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  /** Stop drawing. */
  close() {
    cancelAnimationFrame(this.#frame);
    this.#frame = -1;
  }

  #build() {
    const parts = {
      wheel: icon("wheel"),
      name: element("span", "model"),
      status: element("span", "status"),
      cut: element("p", "cut"),
      reasoning: element("div", "thoughts"),
      summary: element("summary"),
      prose: element("div", "prose"),
      tools: element("div", "tools"),
      note: element("p", "note"),
      again: element("button", "again", icon("again"), "Try again"),
      stats: element("span", "stats"),
      copy: iconButton("copy", "copy", "Copy the answer"),
      curl: iconButton("curl", "curl", "Copy a curl command for this stream"),
      redo: iconButton("again", "again", "Ask again"),
    };
    parts.wheel.classList.add("wheel");
    parts.reasoning.dir = "auto";
    parts.again.type = "button";
    parts.again.dataset.action = "again";
    parts.details = element("details", "reasoning", parts.summary, parts.reasoning);
    parts.problem = element("div", "problem", parts.note, parts.again);
    parts.tail = element("footer", "", parts.stats, element("span", "actions", parts.copy, parts.curl, parts.redo));
    const head = element("header", "", parts.wheel, parts.name, parts.status);
    parts.answer = element("article", "answer", head, parts.cut, parts.details, parts.prose, parts.tools, parts.problem, parts.tail);
    parts.answer.setAttribute("aria-label", "Answer");
    return parts;
  }

  #paint() {
    const turn = this.#turn;
    const status = shownStatus(turn);
    const { answer, details, prose, note } = this.#parts;
    if (answer.dataset.status !== status) this.#paintStatus(status);
    answer.dataset.streamId = turn.stream ?? "";
    answer.rawText = turn.text ?? "";
    this.#parts.name.textContent = (turn.model ?? "").split("/").at(-1);
    this.#parts.name.title = turn.model ?? "";
    write(this.#parts.cut, cutOf(turn));
    this.#parts.cut.hidden = !turn.cut;
    details.hidden = !turn.reasoning;
    write(this.#parts.reasoning, turn.reasoning ?? "");
    write(this.#parts.summary, status === "thinking" ? "Thinking…" : "Reasoning");
    this.#prose.write(turn.text ?? "");
    prose.hidden = !turn.text;
    this.#paintTools(turn.tools ?? []);
    write(note, noteOf(turn));
    this.#parts.problem.hidden = !note.textContent;
    this.#paintStats(turn, status);
    this.#onPaint();
  }

  #paintStatus(status) {
    const { answer, again, tail, copy, curl, redo } = this.#parts;
    answer.dataset.status = status;
    answer.setAttribute("aria-busy", String(!isFinal(this.#turn.status)));
    write(this.#parts.status, WORDS[status] ?? "");
    const ended = isFinal(status);
    tail.hidden = status === "sending" || status === "unsent";
    copy.hidden = !ended || !this.#turn.text;
    redo.hidden = status !== "done" && status !== "cancelled";
    curl.hidden = status === "expired";
    again.hidden = !["failed", "expired", "unsent"].includes(status);
    this.#statsAt = 0;
  }

  #paintTools(tools) {
    const box = this.#parts.tools;
    box.hidden = !tools.length;
    while (box.children.length > tools.length) box.lastChild.remove();
    tools.forEach((call, at) => {
      if (!box.children[at]) box.append(element("details", "tool", element("summary"), element("pre")));
      const [summary, pre] = box.children[at].children;
      write(summary, `Calls ${call.name ?? "a tool"}`);
      write(pre, call.arguments ?? "");
    });
  }

  #paintStats(turn, status) {
    const now = performance.now();
    if (now - this.#statsAt < STATS_MS) return;
    this.#statsAt = now;
    const { tokens, rate, firstMs, attempt } = turn.stats ?? {};
    const figures = [
      rate && [`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tok/s`, "Tokens per second"],
      firstMs && [`${seconds(firstMs)} to first token`, "From sending to the first token"],
      tokens && [`${tokens} token${tokens === 1 ? "" : "s"}`, isFinal(turn.status) ? "Tokens of the answer" : "So far, about"],
      attempt > 1 && [`attempt ${attempt}`, "So many attempts were needed for this answer"],
      turn.finish === "length" && ["cut at the length limit", "The model reached its limit of tokens"],
    ].filter(Boolean);
    this.#parts.stats.replaceChildren(
      ...figures.map(([text, title]) => Object.assign(element("span", "", text), { title })),
    );
    const [turning] = this.#parts.wheel.getAnimations?.() ?? [];
    if (turning && status === "streaming") turning.playbackRate = Math.min(3, Math.max(0.4, (rate ?? 20) / 30));
  }
}

const seconds = (ms) => (ms < 10_000 ? `${(ms / 1000).toFixed(2)} s` : `${Math.round(ms / 1000)} s`);

/** The sentence about earlier turns or images that were not sent to the model. */
function cutOf({ cut }) {
  if (!cut) return "";
  const turns = cut.turns && (cut.turns === 1 ? "an earlier question and its answer" : `${cut.turns} earlier questions and their answers`);
  const images = cut.images && (cut.images === 1 ? "an earlier image" : `${cut.images} earlier images`);
  return `The model did not get ${[turns, images].filter(Boolean).join(", and ")}: together it is too much to send.`;
}

function noteOf(turn) {
  if (turn.status === "failed" || turn.status === "unsent") return turn.error ?? "";
  if (turn.status !== "expired") return "";
  return turn.text
    ? "The server no longer has this stream. This is the copy that your browser kept."
    : "This stream no longer exists on the server: it expired, or was erased.";
}
