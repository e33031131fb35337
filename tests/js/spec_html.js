// Markdown's tree in the HTML of the specifications' examples, so that their answers can be compared letter by letter.
// HTML that stands in a text is written as it is, which the page never does.

import { parseBlocks, parseInline } from "/static/markdown.js";

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
const address = (target) => escaped(encodeURI(target).replace(/%25([0-9a-f]{2})/gi, "%$1").replaceAll("%5B", "[").replaceAll("%5D", "]").replaceAll("[", "%5B").replaceAll("]", "%5D"));

/** One example's Markdown as HTML. */
export function specHtml(markdown) {
  const lines = markdown.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const { blocks, definitions } = parseBlocks(lines);
  return blocks.map((block) => blockHtml(block, definitions)).join("");
}

function blockHtml(block, definitions, isTight = false) {
  const inline = (text) => spansHtml(parseInline(text, definitions));
  const inner = () => block.children.map((child) => blockHtml(child, definitions)).join("");
  switch (block.type) {
    case "paragraph":
      return isTight ? inline(block.text) : `<p>${inline(block.text)}</p>\n`;
    case "heading":
      return `<h${block.level}>${inline(block.text)}</h${block.level}>\n`;
    case "rule":
      return "<hr />\n";
    case "code":
      return `<pre><code${block.language ? ` class="language-${escaped(block.language)}"` : ""}>${escaped(block.text)}</code></pre>\n`;
    case "html":
      return `${block.text}\n`;
    case "quote":
      return `<blockquote>\n${inner()}</blockquote>\n`;
    case "list": {
      const start = block.ordered && block.start !== 1 ? ` start="${block.start}"` : "";
      const name = block.ordered ? "ol" : "ul";
      const items = block.children.map((item) => itemHtml(item, definitions, block.tight));
      return `<${name}${start}>\n${items.join("")}</${name}>\n`;
    }
    case "table": {
      const row = (cells, name) => {
        const align = (at) => (block.aligns[at] ? ` align="${block.aligns[at]}"` : "");
        return `<tr>\n${cells.map((cell, at) => `<${name}${align(at)}>${inline(cell)}</${name}>\n`).join("")}</tr>\n`;
      };
      const [head, ...rows] = block.rows;
      const body = rows.length ? `<tbody>\n${rows.map((cells) => row(cells, "td")).join("")}</tbody>\n` : "";
      return `<table>\n<thead>\n${row(head, "th")}</thead>\n${body}</table>\n`;
    }
    default:
      return `(${block.type})\n`;
  }
}

function itemHtml(item, definitions, isTight) {
  const box = item.checked === undefined ? "" : `<input ${item.checked ? 'checked="" ' : ""}disabled="" type="checkbox"> `;
  let html = "";
  item.children.forEach((child, at) => {
    const isBare = isTight && child.type === "paragraph";
    if (!isBare && !html.endsWith("\n")) html += "\n";
    else if (isBare && at > 0 && !html.endsWith("\n")) html += "\n";
    html += blockHtml(child, definitions, isTight);
  });
  return `<li>${box}${html}</li>\n`;
}

function spansHtml(nodes) {
  return nodes.map((node) => (typeof node === "string" ? escaped(node) : spanHtml(node))).join("");
}

const plain = (nodes) => nodes.map((node) => (typeof node === "string" ? node : node.text ?? plain(node.children ?? []))).join("");

function spanHtml(node) {
  const title = node.title === null || node.title === undefined ? "" : ` title="${escaped(node.title)}"`;
  const inner = () => spansHtml(node.children);
  switch (node.type) {
    case "emphasis":
      return `<em>${inner()}</em>`;
    case "strong":
      return `<strong>${inner()}</strong>`;
    case "struck":
      return `<del>${inner()}</del>`;
    case "code":
      return `<code>${escaped(node.text)}</code>`;
    case "html":
      return node.text;
    case "break":
      return "<br />\n";
    case "link":
      return `<a href="${address(node.target)}"${title}>${inner()}</a>`;
    case "image":
      return `<img src="${address(node.target)}" alt="${escaped(plain(node.children))}"${title} />`;
    default:
      return `(${node.type})`;
  }
}
