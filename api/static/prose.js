// A growing answer as DOM: Markdown of untrusted text, while it is still being written.
//
// Theory of operation. `markdown.js` makes a tree of the text, and this module makes DOM nodes of the tree. It uses only
// text nodes and fixed element names, so no string of the model is ever read as HTML, and a link can only lead to
// http(s) or mailto. Text only grows at its end, and a top-level block is closed for good once another one begins after
// it on a complete line. So closed blocks are rendered once and never touched again, and each `write` renders only the
// tail: the last block and the unfinished line. Only the definition of a link reaches back: when the known definitions
// change, which is rare, everything is rendered again.

import { CodeView } from "./code.js";
import { element } from "./dom.js";
import { formula } from "./maths.js";
import { parseBlocks, parseInline } from "./markdown.js";

const SAFE = /^(?:https?:\/\/|mailto:)/i;
const FROM_RIGHT = /^[^\p{L}]*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u; // the first letter is one

/** Renders a growing text into `container` (see the theory of operation above). */
export class Prose {
  #container;
  #text = "";
  #complete = 0; // characters up to the end of the last complete line
  #closed = 0; // characters whose blocks are closed
  #defined = new Map(); // the definitions of links in the closed blocks
  #known = "[]"; // all definitions with which the closed blocks were rendered
  #tail = []; // the nodes of the tail
  #code = null; // the growing listing in the tail, if there is one

  constructor(container) {
    this.#container = container;
  }

  /** Show `text`. A text that does not continue the one shown before is rendered from its beginning. */
  write(text) {
    if (text === this.#text) return;
    if (!text.startsWith(this.#text)) this.#forget();
    this.#text = text;
    const newly = this.#closeBlocks();
    const { blocks, definitions } = parseBlocks(text.slice(this.#closed).split("\n"));
    const all = new Map([...definitions, ...this.#defined]);
    const known = JSON.stringify([...all].map(([label, { target, title }]) => [label, target, title]).sort());
    if (known !== this.#known) {
      this.#known = known;
      this.#container.replaceChildren(...rendered(parseBlocks(text.slice(0, this.#closed).split("\n")).blocks, all));
      this.#code = null;
    } else if (newly.length) {
      for (const node of this.#tail) node.remove();
      this.#container.append(...rendered(newly, all));
      this.#code = null;
    } else if (this.#code && blocks.length === 1 && this.#code.takes(blocks[0])) return;
    else for (const node of this.#tail) node.remove();
    this.#tail = rendered(blocks, all);
    this.#code = blocks.length === 1 && blocks[0].type === "code" ? this.#tail[0].view : null;
    this.#container.append(...this.#tail);
  }

  #forget() {
    this.#container.replaceChildren();
    this.#complete = this.#closed = 0;
    this.#defined = new Map();
    this.#known = "[]";
    this.#tail = [];
    this.#code = null;
  }

  /** Out: the blocks that the last complete lines have closed. */
  #closeBlocks() {
    const complete = this.#text.lastIndexOf("\n") + 1;
    if (complete <= this.#complete) return [];
    this.#complete = complete;
    const lines = this.#text.slice(this.#closed, complete - 1).split("\n");
    const { blocks, definitions } = parseBlocks(lines);
    const last = blocks.pop();
    if (!blocks.length) return [];
    for (const [label, definition] of definitions) {
      if (definition.line < last.from && !this.#defined.has(label)) this.#defined.set(label, definition);
    }
    this.#closed += lines.slice(0, last.from).reduce((sum, line) => sum + line.length + 1, 0);
    return blocks;
  }
}

const rendered = (blocks, definitions) => blocks.map((block) => renderBlock(block, definitions));

function renderBlock(block, definitions) {
  const inline = (text, parent) => renderSpans(parseInline(text, definitions), directed(parent));
  const holder = (parent) => {
    parent.append(...rendered(block.children, definitions));
    return sided(parent);
  };
  switch (block.type) {
    case "heading":
      return inline(block.text, element(`h${Math.min(block.level + 2, 6)}`));
    case "rule":
      return element("hr");
    case "code": {
      const view = new CodeView(block);
      return Object.assign(view.element, { view });
    }
    case "html":
      return directed(element("p", "html", block.text));
    case "maths":
      return element("div", "display", formula(block.text, true));
    case "quote":
      return holder(element("blockquote"));
    case "footnote": {
      const note = holder(element("div"));
      return element("div", "footnote", element("sup", "", block.label), note);
    }
    case "list": {
      const list = element(block.ordered ? "ol" : "ul", block.tight ? "" : "loose");
      if (block.ordered) list.start = block.start;
      list.append(...block.children.map((item) => renderItem(item, definitions, block.tight)));
      return list;
    }
    case "table":
      return sided(element("div", "table", renderTable(block, inline)));
    default:
      return inline(block.text, element("p"));
  }
}

/** An element whose text has its own direction. */
function directed(node) {
  node.dir = "auto";
  return node;
}

/** An element on the side of its text, which stands in elements with a direction of their own: "auto" looks into none. */
function sided(node) {
  node.dir = FROM_RIGHT.test(node.textContent) ? "rtl" : "auto";
  return node;
}

function renderItem(item, definitions, isTight) {
  const node = element("li");
  if (item.checked !== undefined) {
    const box = element("input");
    Object.assign(box, { type: "checkbox", disabled: true, checked: item.checked });
    box.setAttribute("aria-label", item.checked ? "done" : "to do");
    node.className = "task";
    node.append(box);
  }
  for (const child of item.children) {
    if (isTight && child.type === "paragraph") renderSpans(parseInline(child.text, definitions), node);
    else node.append(renderBlock(child, definitions));
  }
  return sided(node);
}

function renderTable({ aligns, rows: [head, ...rows] }, inline) {
  const row = (cells, name) => element("tr", "", ...cells.map((cell, at) => inline(cell, element(name, aligns[at]))));
  const body = element("tbody", "", ...rows.map((cells) => row(cells, "td")));
  return element("table", "", element("thead", "", row(head, "th")), body);
}

const NAMES = { emphasis: "em", strong: "strong", struck: "del" };

function renderSpans(nodes, parent) {
  parent.append(...nodes.map((node) => (typeof node === "string" ? node : renderSpan(node))));
  return parent;
}

function renderSpan(node) {
  switch (node.type) {
    case "code":
      return element("code", "", node.text);
    case "maths":
      return formula(node.text, node.display);
    case "break":
      return element("br");
    case "note":
      return element("sup", "note-mark", node.label);
    case "html":
      return /^<br\s*\/?>$/i.test(node.text) ? element("br") : document.createTextNode(node.text);
    case "link":
    case "image":
      return renderLink(node);
    default:
      return renderSpans(node.children, element(NAMES[node.type]));
  }
}

/** An image becomes a link, because the page loads nothing from other servers. An unsafe address stays text. */
function renderLink({ type, target, title, children }) {
  const isSafe = SAFE.test(target);
  const link = renderSpans(children, element(isSafe ? "a" : "span", type === "image" ? "image" : ""));
  if (!link.hasChildNodes()) link.append(target);
  if (!isSafe) link.append(` (${target})`);
  else Object.assign(link, { href: target, rel: "noopener noreferrer nofollow", target: "_blank" });
  if (title) link.title = title;
  return link;
}
