// Making elements.

/** Make an element with a class and children (strings become text nodes). */
export function element(name, className = "", ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** An icon from the sprite in index.html. */
export function icon(name) {
  const make = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const svg = make("svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = make("use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon; `action` is its name for the page's click handler. */
export function iconButton(name, action, label) {
  const button = element("button", "quiet", icon(name));
  button.type = "button";
  button.dataset.action = action;
  button.title = label;
  button.setAttribute("aria-label", label);
  return button;
}

/** Set an element's text if it has changed: setting the same text again would end a reader's selection. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
