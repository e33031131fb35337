// Markdown for text that nobody vouches for, while it is still being written.
//
// Theory of operation. `splitBlocks` cuts lines into top-level blocks; `renderBlock` makes one DOM node of a
// block, from text nodes and fixed element names alone: no string of the model is ever read as HTML, and a
// link goes to http(s) only. Text only grows at its end, and a block is closed once another begins behind it
// on a complete line. So closed blocks are rendered once and never touched again, and each `write` renders
// only the tail: the last block and the unfinished line.

const FENCE = /^ {0,3}(`{3,}|~{3,}) *([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6}) +(.*?)(?: +#+)? *$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;
const TABLE_RULE = /^ *\|?(?: *:?-+:? *\|)+(?: *:?-+:?)? *$/;
// Lengths are bounded, so that a thousand unclosed marks cost a thousand short looks and not a long one each.
const INLINE = new RegExp(
  [
    "(`{1,3})(?!`)([^]{1,1000}?)(?<!`)\\1(?!`)",
    "\\*\\*(?=\\S)([^]{1,1000}?)(?<=\\S)\\*\\*",
    "\\*(?=[^\\s*])([^*]{1,500})(?<=\\S)\\*(?!\\*)",
    "(?<!\\w)_(?=[^\\s_])([^_]{1,500})(?<=\\S)_(?!\\w)",
    "\\[([^\\]\\n]{1,300})\\]\\((https?://[^\\s)]{1,2000})\\)",
    "(https?://[^\\s<>()\\[\\]\"'`*]{1,2000}[^\\s<>()\\[\\]\"'`*.,;:!?])",
    "\\\\([\\\\`*_{}\\[\\]()#+\\-.!|>~])",
  ].join("|"),
  "g",
);
const MAX_DEPTH = 6; // lists and quotes nested deeper are shown as plain text
const MAX_INLINE = 20_000; // characters; a longer paragraph is no prose, and is shown as it is

/** Make an element with a class and children (strings become text nodes). */
export function element(name, className = "", ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Lines in; out: blocks `{kind, from, to, …}` by line number, `to` excluded. Pure. */
export function splitBlocks(lines) {
  const blocks = [];
  let from = 0;
  while (from < lines.length) {
    if (lines[from].trim()) blocks.push({ from, ...readBlock(lines, from) });
    from = lines[from].trim() ? blocks.at(-1).to : from + 1;
  }
  return blocks;
}

function readBlock(lines, from) {
  const line = lines[from];
  const fence = FENCE.exec(line);
  if (fence) {
    const mark = fence[1];
    const isEnd = (l) => l.trim().length >= mark.length && l.trim() === mark[0].repeat(l.trim().length);
    let to = from + 1;
    while (to < lines.length && !isEnd(lines[to])) to += 1;
    return { kind: "code", language: fence[2], end: to, to: Math.min(to + 1, lines.length) };
  }
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", level: heading[1].length, text: heading[2], to: from + 1 };
  if (RULE.test(line)) return { kind: "rule", to: from + 1 };
  if (QUOTE.test(line)) return { kind: "quote", to: runTo(lines, from, (l) => QUOTE.test(l)) };
  if (ITEM.test(line)) return { kind: "list", to: endOfList(lines, from) };
  if (line.includes("|") && TABLE_RULE.test(lines[from + 1] ?? "")) {
    return { kind: "table", to: runTo(lines, from, (l) => l.includes("|")) };
  }
  return { kind: "paragraph", to: runTo(lines, from, (l) => l.trim() && !interrupts(l)) };
}

const runTo = (lines, from, belongs) => {
  let to = from + 1;
  while (to < lines.length && belongs(lines[to])) to += 1;
  return to;
};
const interrupts = (l) => FENCE.test(l) || HEADING.test(l) || RULE.test(l) || QUOTE.test(l) || ITEM.test(l);
const isOrdered = (item) => /\d/.test(item[2]);

function endOfList(lines, from) {
  const first = ITEM.exec(lines[from]);
  let end = from + 1; // behind the last line that surely belongs
  for (let at = end; at < lines.length; at += 1) {
    const line = lines[at];
    if (!line.trim()) continue;
    const item = ITEM.exec(line);
    const nested = /^ */.exec(line)[0].length > first[1].length;
    const sibling = item && isOrdered(item) === isOrdered(first) && !RULE.test(line);
    const lazy = at === end && !interrupts(line);
    if (!nested && !sibling && !lazy) break;
    end = at + 1;
  }
  return end;
}

/** One block as a DOM node. */
export function renderBlock(block, lines, depth = 0) {
  const own = lines.slice(block.from, block.to);
  switch (block.kind) {
    case "code":
      return renderCode(block.language, lines.slice(block.from + 1, block.end).join("\n"));
    case "heading":
      return renderInline(block.text, element(`h${Math.min(block.level + 2, 6)}`));
    case "rule":
      return element("hr");
    case "quote":
      return renderLines(own.map((l) => l.replace(QUOTE, "")), element("blockquote"), depth + 1);
    case "list":
      return renderList(own, depth);
    case "table":
      return renderTable(own);
    default:
      return renderInline(own.map((l) => l.trim()).join("\n"), element("p"));
  }
}

function renderLines(lines, parent, depth) {
  if (depth > MAX_DEPTH) parent.append(lines.join("\n"));
  else for (const block of splitBlocks(lines)) parent.append(renderBlock(block, lines, depth));
  return parent;
}

function renderCode(language, text) {
  const copy = element("button", "copy-code", "Copy");
  copy.type = "button";
  copy.dataset.action = "copy-code";
  const pre = element("pre", "", element("code", "", document.createTextNode(text)));
  pre.tabIndex = 0; // wide code must scroll by keyboard too
  return element("figure", "code", element("figcaption", "", element("span", "", language || "text"), copy), pre);
}

function renderList(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const list = element(isOrdered(first) ? "ol" : "ul");
  if (isOrdered(first)) list.start = Number.parseInt(first[2], 10);
  const items = [];
  let width = 0;
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && found[1].length < first[1].length + 2) {
      width = found[0].length;
      items.push([line.slice(width)]);
    } else {
      items.at(-1).push(line.slice(Math.min(/^ */.exec(line)[0].length, width)));
    }
  }
  list.append(...items.map((item) => renderItem(item, depth)));
  return list;
}

function renderItem(lines, depth) {
  const item = renderLines(lines, element("li"), depth + 1);
  if (item.firstElementChild?.tagName === "P") item.firstElementChild.replaceWith(...item.firstElementChild.childNodes);
  return item;
}

function renderTable(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const aligns = cells(lines[1]).map((rule) => (rule.endsWith(":") ? (rule.startsWith(":") ? "center" : "right") : ""));
  const row = (line, name) =>
    element("tr", "", ...cells(line).map((cell, at) => renderInline(cell, element(name, aligns[at] ?? ""))));
  const body = element("tbody", "", ...lines.slice(2).map((line) => row(line, "td")));
  const table = element("table", "", element("thead", "", row(lines[0], "th")), body);
  return element("div", "table", table);
}

function renderInline(text, parent, depth = 0) {
  const isPlain = text.length > MAX_INLINE || depth > MAX_DEPTH;
  let at = 0;
  for (const found of isPlain ? [] : text.matchAll(INLINE)) {
    const [all, , code, bold, italic, underlined, label, target, address, escaped] = found;
    if (found.index > at) parent.append(text.slice(at, found.index));
    at = found.index + all.length;
    if (code) parent.append(element("code", "", code.trim() || code));
    else if (bold) parent.append(renderInline(bold, element("strong"), depth + 1));
    else if (italic ?? underlined) parent.append(renderInline(italic ?? underlined, element("em"), depth + 1));
    else if (target ?? address) parent.append(renderLink(target ?? address, label ?? address));
    else parent.append(escaped);
  }
  if (at < text.length) parent.append(text.slice(at));
  return parent;
}

function renderLink(target, label) {
  const link = element("a", "", label);
  link.href = target;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
  return link;
}

/** Renders a growing text into `container`; see the theory of operation above. */
export class MarkdownTail {
  #container;
  #text = "";
  #closed = 0; // characters whose blocks are rendered for good
  #tail = []; // the nodes of the rest

  constructor(container) {
    this.#container = container;
  }

  /** Show `text`. What does not continue the text shown before is rendered anew. */
  write(text) {
    if (text === this.#text) return;
    if (!text.startsWith(this.#text)) this.#clear();
    this.#text = text;
    this.#closeBlocks();
    const lines = text.slice(this.#closed).split("\n");
    const blocks = splitBlocks(lines);
    if (this.#growCode(blocks, lines)) return;
    for (const node of this.#tail) node.remove();
    this.#tail = blocks.map((block) => renderBlock(block, lines));
    this.#container.append(...this.#tail);
  }

  #clear() {
    this.#container.replaceChildren();
    this.#closed = 0;
    this.#tail = [];
  }

  #closeBlocks() {
    const complete = this.#text.slice(this.#closed, this.#text.lastIndexOf("\n") + 1);
    if (!complete) return;
    const lines = complete.split("\n");
    const closed = splitBlocks(lines);
    const last = closed.pop();
    if (!closed.length) return;
    for (const node of this.#tail) node.remove();
    this.#tail = [];
    this.#container.append(...closed.map((block) => renderBlock(block, lines)));
    this.#closed += lines.slice(0, last.from).reduce((sum, line) => sum + line.length + 1, 0);
  }

  // A long listing must not be built anew for each token: its one text node grows.
  #growCode(blocks, lines) {
    const node = this.#tail[0];
    if (blocks.length !== 1 || blocks[0].kind !== "code" || this.#tail.length !== 1) return false;
    if (node.querySelector("figcaption span")?.textContent !== (blocks[0].language || "text")) return false;
    const code = node.querySelector("code").firstChild;
    const text = lines.slice(blocks[0].from + 1, blocks[0].end).join("\n");
    if (text.startsWith(code.data)) code.appendData(text.slice(code.length));
    else code.data = text;
    return true;
  }
}
