// A listing: its language, a button that copies it, and its text in a few colours.
//
// Theory of operation. A line is read by one regular expression, from left to right: comments, strings, numbers, words.
// The only state that passes from a line to the next is an open span (a comment, a string of three quotes). So a
// growing listing is coloured one complete line at a time, each line once; its last line stays plain until it ends.
// The colours are a help, not a proof: a language is described by its words and marks, not by its grammar.

import { element } from "./dom.js";

const words = (text) => new Set(text.split(" "));

const C = { line: ["//"], spans: [["/*", "*/", "comment"]] };
const JS = "as async await break case catch class const continue debugger default delete do else enum export extends false finally for from function get if implements import in instanceof interface let new null of private protected public readonly return set static super switch this throw true try type typeof undefined var void while with yield";
const C_WORDS = "auto bool break case char class const constexpr continue default delete do double else enum explicit extern false final float for friend goto if include define ifdef ifndef endif inline int long namespace new nullptr NULL operator override private protected public return short signed sizeof static struct switch template this throw true try typedef typename union unsigned using virtual void volatile while";

/** By language: its reserved `words`, the beginning of a `line` comment, and `spans` over several lines, by kind. */
const LANGUAGES = {
  js: { ...C, spans: [...C.spans, ["`", "`", "string"]], words: words(JS) },
  python: {
    line: ["#"],
    spans: [['"""', '"""', "string"], ["'''", "'''", "string"]],
    words: words("False None True and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try while with yield"),
  },
  c: { ...C, words: words(C_WORDS) },
  java: { ...C, words: words("abstract assert boolean break byte case catch char class const continue data default do double else enum extends false final finally float for fun if implements import in instanceof int interface internal is lateinit long native new null object open override package private protected public record return sealed short static super suspend switch this throw throws true try val var void volatile when while async await base bool decimal delegate dynamic event foreach get namespace out params readonly ref set string struct using virtual yield") },
  go: { ...C, spans: [...C.spans, ["`", "`", "string"]], words: words("break case chan const continue default defer else fallthrough false for func go goto if import interface map nil package range return select struct switch true type var bool byte error float64 int int64 string") },
  rust: { ...C, quotes: '"', words: words("as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while") },
  swift: { ...C, words: words("as associatedtype async await break case catch class continue default defer deinit do else enum extension false fileprivate for func guard if import in init inout internal is let nil open operator override private protocol public repeat return self Self static struct subscript super switch throw throws true try typealias var where while") },
  ruby: { line: ["#"], words: words("BEGIN END alias and begin break case class def do else elsif end ensure false for if in module next nil not or private puts raise redo require rescue retry return self super then true undef unless until when while yield") },
  php: { line: ["//", "#"], spans: C.spans, words: words("abstract and array as break case catch class const continue default do echo else elseif extends false final finally fn for foreach function global if implements include instanceof interface match namespace new null or private protected public readonly require return static string switch this throw trait true try use var void while yield") },
  bash: { line: ["#"], words: words("case do done elif else esac export fi for function if in local readonly return select set shift source then until while sudo cd echo exit") },
  sql: { line: ["--"], spans: C.spans, anyCase: true, words: words("add all alter and as asc begin between by case check column commit constraint create cross default delete desc distinct drop else end exists false foreign from full group having if in index inner insert into is join key left like limit not null offset on or order outer primary references returning right rollback select set table then true union unique update using values view when where with") },
  json: { line: [], words: words("true false null"), keys: true },
  yaml: { line: ["#"], words: words("true false null yes no on off"), keys: true },
  toml: { line: ["#"], words: words("true false"), keys: true },
  css: { line: [], spans: C.spans, words: words("important media import supports keyframes layer container from to"), keys: true },
  html: { line: [], spans: [["<!--", "-->", "comment"]], tags: true, words: new Set() },
  diff: { diff: true },
};
const ALIASES = {
  javascript: "js", jsx: "js", ts: "js", tsx: "js", typescript: "js", mjs: "js", py: "python", python3: "python", cpp: "c", "c++": "c", h: "c", hpp: "c",
  objc: "c", cs: "java", csharp: "java", "c#": "java", kotlin: "java", kt: "java", scala: "java", dart: "java", golang: "go", rs: "rust", rb: "ruby",
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", dockerfile: "bash", makefile: "bash", jsonc: "json", json5: "json", yml: "yaml", ini: "toml", conf: "toml",
  scss: "css", less: "css", xml: "html", svg: "html", vue: "html", svelte: "html", patch: "diff", postgres: "sql", postgresql: "sql", mysql: "sql", sqlite: "sql",
};
const MOST_COLOURED = 2_000; // characters of a line; a longer one was written by a program

const quoted = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** The reader of a language's lines, or null. */
function readerOf(name) {
  const key = name.toLowerCase();
  const language = Object.hasOwn(LANGUAGES, key) ? LANGUAGES[key] : LANGUAGES[Object.hasOwn(ALIASES, key) ? ALIASES[key] : ""];
  if (!language) return null;
  if (language.diff) return diffLine;
  const { line, spans = [], quotes = "\"'" } = language;
  const parts = [
    spans.length && `(?<span>${spans.map(([begin]) => quoted(begin)).join("|")})`,
    line.length && `(?<comment>(?:${line.map((mark) => (mark === "#" ? "(?<![^\\s;(){])#" : quoted(mark))).join("|")}).*)`,
    `(?<string>${[...quotes].map((mark) => `${mark}(?:[^${mark}\\\\]|\\\\.)*(?:${mark}|$)`).join("|")})`,
    language.tags && "(?<tag></?[\\w:-]+|/?>)",
    "(?<number>(?<![\\w.])(?:0[xXobB][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\w*)",
    `(?<word>[\\p{L}_$@][\\p{L}\\p{N}_$${language.keys || language.tags ? "\\-" : ""}]*)`,
  ].filter(Boolean);
  const expression = new RegExp(parts.join("|"), "gu");
  return (text, open) => codeLine(text, open, expression, language);
}

/** In: a line, and the span that is open at its beginning. Out: pieces `[kind, text]`, and the span open at its end. */
function codeLine(text, open, expression, language) {
  const pieces = [];
  let at = 0;
  const put = (kind, to) => {
    if (to > at) pieces.push([kind, text.slice(at, to)]);
    at = to;
  };
  const putSpan = (from) => {
    const [, end, kind] = open;
    const found = text.indexOf(end, from);
    put(kind, found < 0 ? text.length : found + end.length);
    if (found >= 0) open = null;
  };
  if (open) putSpan(0);
  while (at < text.length) {
    expression.lastIndex = at;
    const found = expression.exec(text);
    put("", found?.index ?? text.length);
    if (!found) break;
    const { span, comment, string, tag, number, word } = found.groups;
    const to = at + found[0].length;
    if (span) {
      open = language.spans.find(([begin]) => begin === span);
      putSpan(to);
    } else if (comment !== undefined) put("comment", to);
    else if (string !== undefined) put(language.keys && /^\s*:/.test(text.slice(to)) ? "name" : "string", to);
    else if (tag) put("keyword", to);
    else if (number !== undefined) put("number", to);
    else put(kindOf(word, text.slice(to), language), to);
  }
  return { pieces, open };
}

function kindOf(word, behind, language) {
  if (language.words.has(language.anyCase ? word.toLowerCase() : word)) return "keyword";
  if (language.keys) return /^\s*[:=]/.test(behind) ? "name" : "";
  if (language.tags) return behind[0] === "=" ? "name" : "";
  return behind[0] === "(" || word[0] === "@" ? "name" : "";
}

function diffLine(text) {
  const kind = { "+": "string", "-": "removed", "@": "keyword" }[text[0]] ?? "";
  return { pieces: [[kind, text]], open: null };
}

const textOf = (block) => block.text.slice(0, -1); // without the break after the last line, which may be incomplete

/** A listing that may grow. `element` goes into the page. In: a block of `markdown.js`. */
export class CodeView {
  #language;
  #code = element("code");
  #reader;
  #open = null;
  #done = 0; // characters that are coloured
  #last = document.createTextNode(""); // the incomplete last line
  #text = "";

  constructor(block) {
    this.#language = block.language ?? "";
    this.#reader = readerOf(this.#language);
    const copy = element("button", "copy-code", "Copy");
    copy.type = "button";
    copy.dataset.action = "copy-code";
    const pre = element("pre", "", this.#code);
    pre.tabIndex = 0; // wide code must also scroll by keyboard
    pre.dir = "ltr";
    this.element = element("figure", "code", element("figcaption", "", element("span", "", this.#language || "text"), copy), pre);
    this.#code.append(this.#last);
    this.#write(block);
  }

  /** Show a block if it continues this listing. Out: whether it does. */
  takes(block) {
    const goesOn = block.type === "code" && (block.language ?? "") === this.#language && textOf(block).startsWith(this.#text);
    if (goesOn) this.#write(block);
    return goesOn;
  }

  #write(block) {
    const text = (this.#text = textOf(block));
    const end = text.lastIndexOf("\n") + 1;
    if (end > this.#done) {
      const lines = text.slice(this.#done, end - 1).split("\n");
      for (const line of lines) this.#last.before(...this.#coloured(line), "\n");
      this.#done = end;
    }
    this.#last.data = text.slice(end);
    if (block.closed) this.#last.replaceWith(...this.#coloured(this.#last.data));
  }

  #coloured(line) {
    if (!this.#reader || line.length > MOST_COLOURED) return [line];
    const { pieces, open } = this.#reader(line, this.#open);
    this.#open = open;
    return pieces.map(([kind, text]) => (kind ? element("span", `is-${kind}`, text) : text));
  }
}
