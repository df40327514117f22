// Elements are made here and nowhere else. Whatever is shown goes in as text or as the value of an attribute, never as
// HTML: names, labels, reasons and logs are other people's words.

const SVG = "http://www.w3.org/2000/svg";

export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

/** Attributes that are functions listen: `onclick: () => …`. Those that are null, undefined or false are left out. */
function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") listen(element, name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function listen(element, type, handler) {
  element.handlers ??= {};
  element.handlers[type] = handler;
  element.addEventListener(type, (event) => element.handlers[type]?.(event));
}

/** Make what is shown in `old` as `fresh` is, and touch only what differs: focus, scrolling and selection stay. */
export function show(old, ...fresh) {
  patchChildren(old, h("div", null, ...fresh));
}

function patch(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && name !== "open") {
      old.setAttribute(name, value);
      if (name === "value" && old !== document.activeElement) old.value = value;
    }
  }
  for (const [type, handler] of Object.entries(fresh.handlers ?? {})) {
    if (old.handlers?.[type]) old.handlers[type] = handler;
    else listen(old, type, handler);
  }
  if (!old.hasAttribute("data-keep")) patchChildren(old, fresh);
}

function patchChildren(old, fresh) {
  const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = keyOf(child);
    const same = key ? keyed.get(key) : isLike(place, child) ? place : undefined;
    if (!same || same.nodeName !== child.nodeName) {
      old.insertBefore(child, place);
      continue;
    }
    if (same === place) place = place.nextSibling;
    else old.insertBefore(same, place);
    keyed.delete(key);
    if (same.nodeType !== Node.TEXT_NODE) patch(same, child);
    else if (same.data !== child.data) same.data = child.data;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

const keyOf = (node) => node.dataset?.key;
const isLike = (place, child) => place && !keyOf(place) && place.nodeName === child.nodeName;

/** A table that scrolls by itself where the window is narrow. `columns` are headings; `rows` are made by `row`. */
export function table(label, columns, rows, empty) {
  if (rows.length === 0) return h("p", { class: "quiet" }, empty);
  const head = columns.map((column) => h("th", { scope: "col" }, column));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", null, h("thead", null, h("tr", null, head)), h("tbody", null, rows)),
  );
}

export const row = (key, ...cells) => h("tr", { "data-key": key }, cells.map((cell) => (isCell(cell) ? cell : h("td", null, cell))));
const isCell = (cell) => cell instanceof HTMLTableCellElement;
export const number = (...content) => h("td", { class: "number" }, content);

export const section = (title, ...content) => h("section", { "data-key": title }, h("h2", null, title), content);
export const state = (word) => h("span", { class: `state ${/^[a-z]+$/.test(word) ? word : ""}` }, word);
export const jobLink = (name, text = name) => h("a", { href: `job/${encodeURIComponent(name)}`, class: "job" }, text);
