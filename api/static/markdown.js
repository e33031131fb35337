// Markdown as models write it: CommonMark with GitHub's tables, task lists, struck text and bare addresses, and with
// footnotes and maths. Text goes in, a tree comes out; no DOM is made here, and nothing is trusted (see prose.js).
//
// Theory of operation, after the specification's appendix ("a parsing strategy"). First, lines become blocks. The
// open blocks form a path from the document to the tip. Each line is tested against them in turn: the blocks that it
// does not continue are closed, then it may open new ones, and the rest of the line is text of the tip. A closed block
// never opens again, so a growing answer changes only its last top-level block. (Definitions of links are the
// exception: they may come late, and `parseBlocks` returns them together with the blocks.)
//
// Then text becomes spans, in one pass from left to right. Marks that may open or close a span (`*`, `_`, `~`, `[`)
// become tokens, which are paired as soon as the second one is read: both tokens then note what opens or closes there.
// A last pass over the tokens builds the tree, so that no list is ever cut or copied.
//
// Bounds: a line opens no container below MAX_DEPTH, and spans are nested no deeper either (a tree is walked by
// recursion). A text of more than MAX_INLINE characters is no prose, and stays as it is. A search forward (for the end
// of an address or a formula) has a bounded length, or is done once for the whole text.

const MAX_DEPTH = 24;
const MAX_INLINE = 20_000;
const MAX_COLUMNS = 200;

// --- blocks -------------------------------------------------------------------------------------------------

const HTML_NAME = "[A-Za-z][A-Za-z0-9-]*";
const HTML_ATTRIBUTE = "(?:\\s+[a-zA-Z_:][a-zA-Z0-9:._-]*(?:\\s*=\\s*(?:[^\"'=<>`\\x00-\\x20]+|'[^']*'|\"[^\"]*\"))?)";
const HTML_OPEN = `<${HTML_NAME}${HTML_ATTRIBUTE}*\\s*/?>`;
const HTML_CLOSE = `</${HTML_NAME}\\s*>`;
const HTML_BLOCKS =
  "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt|" +
  "fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu|" +
  "menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|" +
  "track|ul";
/** The beginning of each kind of HTML block, and its end; null: a blank line ends it. */
const HTML_STARTS = [
  [/^<(?:script|pre|textarea|style)(?:\s|>|$)/i, /<\/(?:script|pre|textarea|style)>/i],
  [/^<!--/, /-->/],
  [/^<\?/, /\?>/],
  [/^<![A-Za-z]/, />/],
  [/^<!\[CDATA\[/, /\]\]>/],
  [new RegExp(`^</?(?:${HTML_BLOCKS})(?:\\s|/?>|$)`, "i"), null],
  [new RegExp(`^(?:${HTML_OPEN}|${HTML_CLOSE})\\s*$`, "i"), null],
];

const RULE = /^(?:\*[ \t]*){3,}$|^(?:_[ \t]*){3,}$|^(?:-[ \t]*){3,}$/;
const ATX = /^#{1,6}(?:[ \t]+|$)/;
const SETEXT = /^(?:=+|-+)[ \t]*$/;
const FENCE = /^`{3,}(?!.*`)|^~{3,}/;
const FENCE_END = /^(?:`{3,}|~{3,})(?=[ \t]*$)/;
const FOOTNOTE = /^\[\^([^\s\]]{1,80})\]:[ \t]*/;
const MATHS = /^(\$\$|\\\[)[ \t]*(.*)$/;
const MATHS_END = { $$: "$$", "\\[": "\\]" };
const TABLE_RULE = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const TASK = /^\[([ xX])\][ \t]+(?=\S)/;

const LINES = new Set(["paragraph", "code", "html", "table", "maths"]); // blocks that consist of lines
const HOLDERS = new Set(["document", "quote", "item", "footnote"]); // blocks that hold any other blocks

const isSpace = (char) => char === " " || char === "\t";

/**
 * In: lines without their ends. Out: `{blocks, definitions}`.
 *
 * A block is `{type, from, to, …}` with the numbers of its first and last line. By type it also has `children` (quote, list,
 * item, footnote), `text` (paragraph, heading, code, html, maths), `level` (heading), `language` and `fenced` (code),
 * `ordered`, `start` and `tight` (list), `checked` (item: true, false or undefined), `label` (footnote), `closed`
 * (code, maths), `aligns` and `rows` of texts (table). `definitions` are those of links: label -> `{target, title, line}`.
 */
export function parseBlocks(lines) {
  const parser = new BlockParser();
  for (const line of lines) parser.take(line);
  return parser.end();
}

class Block {
  to = -1;
  open = true;
  children = [];
  lines = [];

  constructor(type, from, parent, more) {
    Object.assign(this, { type, from, parent, ...more });
  }
}

class BlockParser {
  #root = new Block("document", 0, null);
  #tip = this.#root;
  #matched = this.#root; // the last block that this line continues
  #definitions = new Map();
  #number = -1;
  #line = "";
  #offset = 0; // the position in the line, in characters and in columns (a tab goes to the next multiple of four)
  #column = 0;
  #partial = false; // only a part of a tab was read
  #next = 0; // the first character from there on that is no space
  #nextColumn = 0;

  get #indent() {
    return this.#nextColumn - this.#column;
  }

  get #blank() {
    return this.#next >= this.#line.length;
  }

  /** Whether the line, if it opens no block, continues the paragraph of a block that it does not continue itself. */
  get #isLazy() {
    return this.#tip !== this.#matched && !this.#blank && this.#tip.type === "paragraph";
  }

  get #rest() {
    return this.#line.slice(this.#next);
  }

  /** Take one more line. */
  take(line) {
    this.#number += 1;
    this.#line = line.replaceAll("\0", "\uFFFD");
    this.#offset = this.#column = 0;
    this.#partial = false;
    let container = this.#root;
    for (;;) {
      const inner = container.children.at(-1);
      if (!inner?.open) break;
      this.#look();
      const goesOn = this.#continues(inner);
      if (goesOn === "done") return;
      if (!goesOn) break;
      container = inner;
    }
    this.#matched = container;
    let isLeaf = LINES.has(container.type) && !["paragraph", "table"].includes(container.type);
    while (!isLeaf) {
      this.#look();
      const started = this.#start(container);
      if (!started) break;
      if (started === "done") return;
      container = this.#tip;
      isLeaf = started === "leaf";
    }
    if (!isLeaf) this.#skip();
    if (this.#isLazy) {
      this.#addLine();
      return;
    }
    this.#closeUnmatched();
    if (LINES.has(container.type)) {
      this.#addLine();
      if (container.type === "html" && container.end?.test(this.#line.slice(this.#offset))) this.#close(container, this.#number);
    } else if (this.#offset < this.#line.length && !this.#blank) {
      this.#add("paragraph");
      this.#skip();
      this.#addLine();
    }
  }

  end() {
    while (this.#tip) this.#close(this.#tip, this.#number);
    return { blocks: this.#root.children, definitions: this.#definitions };
  }

  /** Whether the line continues an open block; "done" if nothing is left of the line. */
  #continues(block) {
    switch (block.type) {
      case "quote":
        return this.#indent < 4 && this.#line[this.#next] === ">" && this.#readQuote();
      case "item":
      case "footnote":
        if (this.#blank) return block.children.length > 0 && this.#skip();
        return this.#indent >= block.width && this.#advance(block.width, true);
      case "code": {
        if (!block.fenced) return this.#indent >= 4 ? this.#advance(4, true) : this.#blank && this.#skip();
        const end = this.#indent < 4 && this.#line[this.#next] === block.mark[0] && FENCE_END.exec(this.#rest);
        if (end && end[0].length >= block.mark.length) {
          block.closed = true;
          this.#close(block, this.#number);
          return "done";
        }
        for (let at = block.offset; at > 0 && isSpace(this.#line[this.#offset]); at -= 1) this.#advance(1, true);
        return true;
      }
      case "maths": {
        if (this.#blank) return false;
        const text = this.#rest.trimEnd();
        if (!text.endsWith(MATHS_END[block.mark])) return true;
        block.lines.push(text.slice(0, -2));
        block.closed = true;
        this.#close(block, this.#number);
        return "done";
      }
      case "html":
        return !(this.#blank && !block.end);
      case "paragraph":
      case "table":
        return !this.#blank;
      default:
        return block.type === "list";
    }
  }

  /** Open one block, if the line opens one. Out: "holder" or "leaf"; "done" if nothing of the line is left; null: no block. */
  #start(container) {
    const rest = this.#rest;
    const depth = depthOf(container);
    if (this.#indent >= 4) {
      if (this.#tip.type === "paragraph" || this.#blank || container.type === "table") return null;
      this.#advance(4, true);
      this.#add("code", { fenced: false });
      return "leaf";
    }
    if (rest[0] === ">" && depth < MAX_DEPTH) {
      this.#readQuote();
      this.#add("quote");
      return "holder";
    }
    let found;
    if ((found = ATX.exec(rest))) {
      const text = rest.slice(found[0].length).replace(/^[ \t]*#+[ \t]*$/, "").replace(/[ \t]+#+[ \t]*$/, "");
      this.#add("heading", { level: found[0].trim().length, text: text.trim() });
      return this.#whole();
    }
    if ((found = FENCE.exec(rest))) {
      this.#add("code", { fenced: true, closed: false, mark: found[0], offset: this.#indent });
      this.#skip();
      this.#advance(found[0].length);
      return "leaf";
    }
    if (rest[0] === "<") {
      for (const [index, [begins, end]] of HTML_STARTS.entries()) {
        if (!begins.test(rest) || (index === 6 && (container.type === "paragraph" || this.#isLazy))) continue;
        this.#add("html", { end });
        return "leaf";
      }
    }
    if (container.type === "paragraph" && SETEXT.test(rest)) {
      this.#define(container);
      if (container.lines.length) {
        const heading = { type: "heading", level: rest[0] === "=" ? 1 : 2, text: textOf(container.lines) };
        Object.assign(container, heading);
        return this.#whole();
      }
    }
    if (container.type === "paragraph" && TABLE_RULE.test(rest) && this.#startTable(container, rest)) return "done";
    if (RULE.test(rest)) {
      this.#add("rule");
      return this.#whole();
    }
    if ((found = FOOTNOTE.exec(rest)) && depth < MAX_DEPTH) {
      this.#skip();
      this.#advance(found[0].length);
      this.#add("footnote", { label: found[1], width: 4 });
      return "holder";
    }
    if ((found = MATHS.exec(rest))) {
      const [, mark, said] = found;
      const end = said.indexOf(MATHS_END[mark]);
      if (!said) {
        this.#add("maths", { mark, closed: false });
        return "done";
      }
      if (end > 0 && !said.slice(end + 2).trim()) {
        this.#add("maths", { mark, closed: true, lines: [said.slice(0, end)] });
        return this.#whole();
      }
    }
    const marker = depth < MAX_DEPTH && this.#readMarker(container);
    if (!marker) return null;
    this.#closeUnmatched();
    if (this.#tip.type !== "list" || this.#tip.mark !== marker.mark) {
      const { mark, ordered, start } = marker;
      this.#add("list", { mark, ordered, start });
    }
    this.#add("item", { width: marker.width });
    return "holder";
  }

  /** Add a block that is this one line. */
  #whole() {
    this.#close(this.#tip, this.#number);
    return "done";
  }

  #readQuote() {
    this.#skip();
    this.#advance(1);
    if (isSpace(this.#line[this.#offset])) this.#advance(1, true);
    return true;
  }

  #readMarker(container) {
    const rest = this.#rest;
    const found = /^[*+-]/.exec(rest) ?? /^(\d{1,9})([.)])/.exec(rest);
    if (!found || (rest.length > found[0].length && !isSpace(rest[found[0].length]))) return null;
    const [mark, number, delimiter] = found;
    if (container.type === "paragraph" && ((number && Number(number) !== 1) || !rest.slice(mark.length).trim())) return null;
    const before = this.#indent;
    this.#skip();
    this.#advance(mark.length, true);
    const { column, offset, partial } = { column: this.#column, offset: this.#offset, partial: this.#partial };
    do this.#advance(1, true);
    while (this.#column - column < 5 && isSpace(this.#line[this.#offset]));
    const spaces = this.#column - column;
    const isEmpty = !this.#line.slice(offset).trim();
    let width = mark.length + spaces;
    if (spaces >= 5 || spaces < 1 || isEmpty) {
      width = mark.length + 1;
      this.#column = column;
      this.#offset = offset;
      this.#partial = partial;
      if (isSpace(this.#line[this.#offset])) this.#advance(1, true);
    }
    return { ordered: Boolean(number), start: Number(number), mark: delimiter ?? mark, width: before + width };
  }

  /** A paragraph's last line is a table's head if it has as many cells as the rule below it. */
  #startTable(paragraph, rule) {
    const head = cellsOf(paragraph.lines.at(-1));
    const aligns = cellsOf(rule).map((cell) => (/^:-*:$/.test(cell) ? "center" : cell.endsWith(":") ? "right" : cell.startsWith(":") ? "left" : ""));
    const hasBars = rule.includes("|") || paragraph.lines.at(-1).includes("|");
    if (!hasBars || head.length !== aligns.length || head.length > MAX_COLUMNS) return false;
    const above = paragraph.lines.slice(0, -1);
    if (above.length) {
      paragraph.lines = above;
      this.#close(paragraph, this.#number - 2);
      this.#add("table", { aligns, rows: [head] });
      this.#tip.from = this.#number - 1;
    } else Object.assign(paragraph, { type: "table", aligns, rows: [head], lines: [] });
    return true;
  }

  #add(type, more) {
    this.#closeUnmatched();
    const holds = (block) => (block.type === "list" ? type === "item" : HOLDERS.has(block.type) && type !== "item");
    while (!holds(this.#tip)) this.#close(this.#tip, this.#number - 1);
    const block = new Block(type, this.#number, this.#tip, more);
    this.#tip.children.push(block);
    this.#tip = this.#matched = block;
  }

  #addLine() {
    let text = this.#line.slice(this.#offset);
    if (this.#partial) text = " ".repeat(4 - (this.#column % 4)) + text.slice(1);
    this.#tip.lines.push(text);
  }

  #closeUnmatched() {
    while (this.#tip !== this.#matched) this.#close(this.#tip, this.#number - 1);
  }

  #close(block, to) {
    while (this.#tip !== block) this.#close(this.#tip, to);
    block.open = false;
    block.to = to;
    this.#tip = block.parent;
    if (this.#matched === block) this.#matched = block.parent;
    const { children, lines } = block;
    switch (block.type) {
      case "paragraph":
        this.#define(block);
        if (lines.length) block.text = textOf(lines);
        else block.parent.children.splice(block.parent.children.indexOf(block), 1);
        break;
      case "code":
        if (block.fenced) block.language = unescaped(lines.shift().trim()).split(/\s/)[0];
        else while (lines.length && !lines.at(-1).trim()) lines.pop();
        if (!block.fenced) block.to = block.from + lines.length - 1;
        block.text = lines.map((line) => `${line}\n`).join("");
        break;
      case "html":
        block.text = lines.join("\n").trimEnd();
        break;
      case "maths":
        block.text = lines.join("\n").trim();
        if (!block.closed) Object.assign(block, { type: "paragraph", text: `${block.mark}\n${block.text}` });
        break;
      case "table":
        block.rows.push(...lines.map((line) => fitted(cellsOf(line), block.aligns.length)));
        break;
      case "item": {
        block.to = children.at(-1)?.to ?? block.from;
        const task = children[0]?.type === "paragraph" && TASK.exec(children[0].text);
        if (task) {
          block.checked = task[1] !== " ";
          children[0].text = children[0].text.slice(task[0].length);
        }
        break;
      }
      case "list": {
        block.to = children.at(-1).to;
        const isApart = (each, at, all) => at + 1 < all.length && each.to !== all[at + 1].from - 1;
        block.tight = !children.some((item, at, all) => isApart(item, at, all) || item.children.some(isApart));
      }
    }
  }

  /** Remove the definitions of links from a paragraph's beginning. */
  #define(paragraph) {
    const { lines } = paragraph;
    while (lines[0]?.trimStart()[0] === "[") {
      const text = textOf(lines);
      const found = readDefinition(text);
      if (!found) return;
      const { target, title } = found;
      if (!this.#definitions.has(found.label)) this.#definitions.set(found.label, { target, title, line: paragraph.from });
      lines.splice(0, found.lines);
      paragraph.from += found.lines;
    }
  }

  #look() {
    this.#next = this.#offset;
    this.#nextColumn = this.#column;
    for (; isSpace(this.#line[this.#next]); this.#next += 1) {
      this.#nextColumn += this.#line[this.#next] === "\t" ? 4 - (this.#nextColumn % 4) : 1;
    }
  }

  #skip() {
    this.#offset = this.#next;
    this.#column = this.#nextColumn;
    this.#partial = false;
    return true;
  }

  #advance(count, isColumns = false) {
    for (let left = count; left > 0 && this.#offset < this.#line.length; ) {
      const toTab = this.#line[this.#offset] === "\t" ? 4 - (this.#column % 4) : 1;
      const taken = isColumns ? Math.min(left, toTab) : toTab;
      this.#partial = taken < toTab;
      this.#column += taken;
      if (!this.#partial) this.#offset += 1;
      left -= isColumns ? taken : 1;
    }
    return true;
  }
}

const depthOf = (block) => (block.parent ? 1 + depthOf(block.parent) : 0);
const textOf = (lines) => lines.map((line) => line.replace(/^[ \t]+/, "")).join("\n").replace(/[ \t]+$/, "");
const fitted = (cells, count) => Array.from({ length: count }, (_, at) => cells[at] ?? "");

function cellsOf(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

// --- links: their parts -------------------------------------------------------------------------------------

const LABEL = /\[((?:[^\\[\]]|\\[^]){1,999})\]/y;
const IN_BRACKETS = /<((?:[^<>\n\\]|\\.)*)>/y;
const TITLE = /"((?:[^"\\]|\\[^])*)"|'((?:[^'\\]|\\[^])*)'|\(((?:[^()\\]|\\[^])*)\)/y;
const LINE_END = /[ \t]*(?:\n|$)/y;
const GAP = /[ \t]*(?:\n[ \t]*)?/y;
const ESCAPE = /\\([!-/:-@[-`{-~])|&(?:#x[0-9a-f]{1,6}|#[0-9]{1,7}|[a-z][a-z0-9]{1,31});/gi;

/** Match a sticky regular expression at a position. */
function matchAt(expression, text, at) {
  expression.lastIndex = at;
  return expression.exec(text);
}

const behindGap = (text, at) => at + matchAt(GAP, text, at)[0].length;
const unescaped = (text) => text.replace(ESCAPE, (all, char) => char ?? entity(all));
const normalized = (label) => label.trim().replace(/\s+/g, " ").toLowerCase().toUpperCase();

/** The character of an entity, or the entity unchanged. The document that is parsed for this runs no script. */
function entity(text) {
  if (text[1] !== "#") {
    const found = new DOMParser().parseFromString(text, "text/html").body.textContent;
    return found.endsWith(";") ? text : found; // `&ltx;` is no entity, although a browser reads `&lt` and `x;`
  }
  const code = /x/i.test(text[2]) ? Number.parseInt(text.slice(3), 16) : Number.parseInt(text.slice(2), 10);
  return code && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : "\uFFFD";
}

/** Out: `{target, end}`, or null. */
function readTarget(text, from) {
  if (text[from] === "<") {
    const found = matchAt(IN_BRACKETS, text, from);
    return found && { target: unescaped(found[1]), end: from + found[0].length };
  }
  let depth = 0;
  let at = from;
  for (; at < text.length; at += 1) {
    const char = text[at];
    if (char === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) at += 1;
    else if (char === "(") {
      if ((depth += 1) > 32) return null;
    } else if (char === ")") {
      if (depth === 0) break;
      depth -= 1;
    } else if (char <= " " || char === "\x7f") break;
  }
  return depth ? null : { target: unescaped(text.slice(from, at)), end: at };
}

function readTitle(text, at) {
  const found = matchAt(TITLE, text, at);
  return found && { title: unescaped(found[1] ?? found[2] ?? found[3]), end: at + found[0].length };
}

/** The definition of a link at a text's beginning: `{label, target, title, lines}` with the number of its lines, or null. */
function readDefinition(text) {
  const label = matchAt(LABEL, text, 0);
  if (!label?.[1].trim() || label[1][0] === "^" || text[label[0].length] !== ":") return null;
  const from = behindGap(text, label[0].length + 1);
  const target = readTarget(text, from);
  if (!target || target.end === from) return null;
  const gap = behindGap(text, target.end);
  let title = gap > target.end ? readTitle(text, gap) : null;
  if (title && !matchAt(LINE_END, text, title.end)) title = null; // no title: the text after the definition
  const { end } = title ?? target;
  if (!matchAt(LINE_END, text, end)) return null;
  return { label: normalized(label[1]), target: target.target, title: title?.title ?? null, lines: text.slice(0, end).split("\n").length };
}

// --- spans --------------------------------------------------------------------------------------------------

const PLAIN = /(?:[^\\`*_~[\]!<&$\nhw]|h(?!ttps?:\/\/)|w(?!ww\.)|!(?!\[))+/y;
const AUTOLINK = /<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]{0,2000})>/y;
const EMAIL_LINK = /<([a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,200}@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*)>/y;
const HTML = new RegExp(`${HTML_OPEN}|${HTML_CLOSE}|<!-->|<!--->|<!--[^]*?-->|<\\?[^]*?\\?>|<![A-Za-z][^>]*>|<!\\[CDATA\\[[^]*?\\]\\]>`, "iy");
const ENTITY = /&(?:#x[0-9a-f]{1,6}|#[0-9]{1,7}|[a-z][a-z0-9]{1,31});/iy;
const BARE_URL = /(?:https?:\/\/|www\.)[^\s<[\]]{1,2000}/y;
const EMAIL = /(?<![\w.+-])[\w.+-]{1,100}@[\w-]{1,100}(?:\.[\w-]{1,100}){1,8}(?<![-_])(?![\w@-])/g;
const IN_TEXT_MATHS = /\\\(([^]{1,1000}?)\\\)|\\\[([^]{1,2000}?)\\\]|\$\$([^$]{1,2000}?)\$\$|\$(?![\s$])((?:[^$\n\\]|\\.){1,500}?)(?<!\s)\$(?![\d$])/y;
const NOTE = /\[\^([^\s\]]{1,80})\]/y;
const PUNCTUATION = /[\p{P}\p{S}]/u;

/**
 * In: a paragraph's text, and the definitions of links. Out: strings and nodes `{type, …}`: `children` (emphasis,
 * strong, struck, link, image), `target` and `title` (link, image), `text` (code, html, maths), `display` (maths),
 * `label` (note); `break` has no more fields.
 */
export function parseInline(text, definitions = new Map()) {
  if (text.length > MAX_INLINE) return [text];
  return new InlineParser(text, definitions).parse();
}

class InlineParser {
  #text;
  #definitions;
  #at = 0;
  #tokens = []; // {text, node?, opens: [node], closes: count, …}
  #marks = []; // tokens of runs of `*`, `_` or `~` that may still be paired
  #brackets = []; // tokens of `[` and `![` that may still be paired
  #ticks = null; // length of a run of backticks -> its last position

  constructor(text, definitions) {
    this.#text = text;
    this.#definitions = definitions;
  }

  parse() {
    while (this.#at < this.#text.length) this.#step();
    this.#pair(0);
    return this.#build();
  }

  #push(token) {
    const made = { text: "", opens: [], closes: 0, ...token };
    this.#tokens.push(made);
    return made;
  }

  #pushNode(node, length) {
    this.#at += length;
    return this.#push({ node });
  }

  #pushText(text, length = text.length) {
    this.#at += length;
    return this.#push({ text });
  }

  #step() {
    const text = this.#text;
    const at = this.#at;
    const plain = matchAt(PLAIN, text, at);
    if (plain) return this.#pushText(plain[0]);
    switch (text[at]) {
      case "\n":
        return this.#lineEnd();
      case "\\":
      case "$":
        return this.#maths() || this.#escape();
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#run();
      case "!":
        return this.#openBracket("![");
      case "[": {
        const note = matchAt(NOTE, text, at);
        return note ? this.#pushNode({ type: "note", label: note[1] }, note[0].length) : this.#openBracket("[");
      }
      case "]":
        return this.#closeBracket();
      case "<":
        return this.#angle();
      case "&": {
        const found = matchAt(ENTITY, text, at);
        return found ? this.#pushText(entity(found[0]), found[0].length) : this.#pushText("&");
      }
      default:
        return this.#address() || this.#pushText(text[at]);
    }
  }

  #lineEnd() {
    const last = this.#tokens.at(-1);
    const spaces = last && !last.node ? / *$/.exec(last.text)[0].length : 0;
    if (spaces) last.text = last.text.slice(0, -spaces);
    const gap = matchAt(/\n[ \t]*/y, this.#text, this.#at)[0].length;
    if (spaces >= 2) this.#pushNode({ type: "break" }, gap);
    else this.#pushText("\n", gap);
  }

  #escape() {
    const next = this.#text[this.#at + 1] ?? "";
    if (this.#text[this.#at] !== "\\") return this.#pushText("$");
    if (next === "\n") return this.#pushNode({ type: "break" }, matchAt(/\\\n[ \t]*/y, this.#text, this.#at)[0].length);
    return /[!-/:-@[-`{-~]/.test(next) ? this.#pushText(next, 2) : this.#pushText("\\");
  }

  #maths() {
    const found = matchAt(IN_TEXT_MATHS, this.#text, this.#at);
    const said = found && (found[1] ?? found[2] ?? found[3] ?? found[4]);
    if (!said || !/[\p{L}\p{N}]/u.test(said)) return null;
    return this.#pushNode({ type: "maths", text: said.trim(), display: found[2] !== undefined || found[3] !== undefined }, found[0].length);
  }

  #code() {
    const run = matchAt(/`+/y, this.#text, this.#at)[0];
    if (!this.#ticks) {
      this.#ticks = new Map();
      for (const { 0: ticks, index } of this.#text.matchAll(/`+/g)) this.#ticks.set(ticks.length, index);
    }
    const from = this.#at + run.length;
    if ((this.#ticks.get(run.length) ?? -1) < from) return this.#pushText(run);
    const other = /`+/g;
    other.lastIndex = from;
    let end;
    do end = other.exec(this.#text);
    while (end[0].length !== run.length);
    let said = this.#text.slice(from, end.index).replaceAll("\n", " ");
    if (said.trim() && said.startsWith(" ") && said.endsWith(" ")) said = said.slice(1, -1);
    return this.#pushNode({ type: "code", text: said }, end.index + run.length - this.#at);
  }

  #angle() {
    const text = this.#text;
    let found = matchAt(AUTOLINK, text, this.#at);
    if (found) return this.#pushNode({ type: "link", target: found[1], title: null, children: [found[1]] }, found[0].length);
    found = matchAt(EMAIL_LINK, text, this.#at);
    if (found) return this.#pushNode({ type: "link", target: `mailto:${found[1]}`, title: null, children: [found[1]] }, found[0].length);
    found = matchAt(HTML, text, this.#at);
    return found ? this.#pushNode({ type: "html", text: found[0] }, found[0].length) : this.#pushText("<");
  }

  /** GitHub's bare addresses: without punctuation at their end, and not inside of a word. */
  #address() {
    const before = this.#text[this.#at - 1] ?? " ";
    const found = /[\s*_~([]/.test(before) && matchAt(BARE_URL, this.#text, this.#at);
    if (!found) return null;
    let [url] = found;
    for (let was; was !== url; ) {
      was = url;
      url = url.replace(/[?!.,:*_~'"]+$/, "").replace(/&[a-zA-Z0-9]+;$/, "");
      if (url.endsWith(")") && url.split(")").length > url.split("(").length) url = url.slice(0, -1);
    }
    const host = /^(?:https?:\/\/)?([^/?#]*)/.exec(url)[1];
    if (!/^[^\s_]/.test(host) || !/\./.test(host) && !/^localhost\b/.test(host) || /_[^.]*(?:\.[^.]*)?$/.test(host)) return null;
    const target = url.startsWith("www.") ? `http://${url}` : url;
    return this.#pushNode({ type: "link", target, title: null, children: [url], bare: true }, url.length);
  }

  #run() {
    const char = this.#text[this.#at];
    const from = this.#at;
    let to = from;
    while (this.#text[to] === char) to += 1;
    const before = from ? charBefore(this.#text, from) : "\n";
    const after = to < this.#text.length ? String.fromCodePoint(this.#text.codePointAt(to)) : "\n";
    const [beforeSpace, afterSpace] = [/\s/.test(before), /\s/.test(after)];
    const [beforeMark, afterMark] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
    const left = !afterSpace && (!afterMark || beforeSpace || beforeMark);
    const right = !beforeSpace && (!beforeMark || afterSpace || afterMark);
    const canOpen = char === "_" ? left && (!right || beforeMark) : left;
    const canClose = char === "_" ? right && (!left || afterMark) : right;
    const token = Object.assign(this.#pushText(this.#text.slice(from, to)), { char, canOpen, canClose, left: to - from, length: to - from, from });
    if ((canOpen || canClose) && (char !== "~" || token.length < 3)) this.#marks.push(token);
  }

  /** Pair the runs from this position of the stack on, and remove them all from it. */
  #pair(bottom) {
    const marks = this.#marks;
    const floors = new Map(); // kind of closer -> there is no opener for it before this position in the text
    for (let at = bottom; at < marks.length; ) {
      const closer = marks[at];
      if (!closer.canClose || !closer.left) {
        at += 1;
        continue;
      }
      const kind = closer.char === "~" ? `~${closer.length}` : `${closer.char}${closer.canOpen}${closer.length % 3}`;
      const floor = floors.get(kind) ?? -1;
      let from = at - 1;
      while (from >= bottom && marks[from].from >= floor && !fits(marks[from], closer)) from -= 1;
      if (from < bottom || marks[from].from < floor) {
        floors.set(kind, closer.from);
        at += 1;
        continue;
      }
      const opener = marks[from];
      const used = closer.char === "~" ? closer.left : opener.left >= 2 && closer.left >= 2 ? 2 : 1;
      opener.opens.push({ type: closer.char === "~" ? "struck" : used === 2 ? "strong" : "emphasis" });
      closer.closes += 1;
      for (const each of [opener, closer]) {
        each.left -= used;
        each.text = each.char.repeat(each.left);
      }
      marks.splice(from + 1, at - from - 1);
      at = from + 1;
      if (!opener.left) {
        marks.splice(from, 1);
        at -= 1;
      }
    }
    marks.length = bottom;
  }

  #openBracket(text) {
    const token = this.#pushText(text);
    this.#brackets.push(Object.assign(token, { image: text === "![", active: true, from: this.#at, bottom: this.#marks.length }));
  }

  #closeBracket() {
    const opener = this.#brackets.pop();
    if (!opener?.active) return this.#pushText("]");
    const link = this.#readLink(opener);
    if (!link) return this.#pushText("]");
    this.#pair(opener.bottom);
    opener.text = "";
    opener.opens.push({ type: opener.image ? "image" : "link", target: link.target, title: link.title });
    this.#at = link.end;
    this.#push({ closes: 1 });
    if (!opener.image) for (const each of this.#brackets) if (!each.image) each.active = false;
  }

  /** Read the rest of a link, from the `]` after its text: `{target, title, end}`, or null. */
  #readLink(opener) {
    const text = this.#text;
    const behind = this.#at + 1;
    if (text[behind] === "(") {
      const from = behindGap(text, behind + 1);
      const target = readTarget(text, from);
      if (target) {
        const gap = behindGap(text, target.end);
        const title = gap > target.end ? readTitle(text, gap) : null;
        const end = title ? behindGap(text, title.end) : gap;
        if (text[end] === ")") return { target: target.target, title: title?.title ?? null, end: end + 1 };
      }
    }
    const label = matchAt(LABEL, text, behind);
    const own = text.slice(opener.from, this.#at);
    const isShort = !label && text.startsWith("[]", behind);
    // Without a label of its own a link's text is its label, unless there are brackets in it.
    const named = label ? label[1] : /^(?:[^\\[\]]|\\[^]){1,999}$/.test(own) ? own : null;
    const found = named?.trim() && this.#definitions.get(normalized(named));
    if (!found) return null;
    return { ...found, end: label ? behind + label[0].length : isShort ? behind + 2 : behind };
  }

  #build() {
    const root = { children: [] };
    const path = [root];
    let flat = 0; // open nodes that are too deep to be shown
    const add = (piece) => {
      const { children } = path.at(-1);
      if (piece.bare && path.some((node) => node.type === "link")) add(piece.children[0]); // no link in a link
      else if (typeof piece === "string" && typeof children.at(-1) === "string") children[children.length - 1] += piece;
      else if (piece !== "") children.push(piece);
    };
    for (const token of this.#tokens) {
      for (let left = token.closes; left > 0; left -= 1) {
        if (flat) flat -= 1;
        else path.pop();
      }
      add(token.node ?? token.text);
      for (const node of token.opens.reverse()) {
        if (flat || path.length > MAX_DEPTH) {
          flat += 1;
          continue;
        }
        node.children = [];
        add(node);
        path.push(node);
      }
    }
    return withEmails(root.children);
  }
}

function charBefore(text, at) {
  const low = text[at - 1];
  return at > 1 && low >= "\uDC00" && low <= "\uDFFF" ? text.slice(at - 2, at) : low;
}

/** Whether one run can open the span that the other closes. (The rule of three: `*a**b*` is one emphasis.) */
function fits(opener, closer) {
  if (opener.char !== closer.char || !opener.canOpen || !opener.left) return false;
  if (closer.char === "~") return opener.length === closer.length;
  const isOdd = (closer.canOpen || opener.canClose) && closer.length % 3 !== 0 && (opener.length + closer.length) % 3 === 0;
  return !isOdd;
}

/** Find bare e-mail addresses in the text. */
function withEmails(nodes) {
  return nodes.flatMap((node) => {
    if (typeof node === "string") return node.includes("@") ? split(node) : [node];
    if (node.children && node.type !== "link") node.children = withEmails(node.children);
    return [node];
  });
}

function split(text) {
  const pieces = [];
  let at = 0;
  for (const { 0: address, index } of text.matchAll(EMAIL)) {
    pieces.push(text.slice(at, index), { type: "link", target: `mailto:${address}`, title: null, children: [address] });
    at = index + address.length;
  }
  pieces.push(text.slice(at));
  return pieces.filter((piece) => piece !== "");
}
