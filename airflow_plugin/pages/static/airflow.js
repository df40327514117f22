// Links to Airflow's own pages. In Airflow's frame they must open around this page and not in it.
import { h } from "./dom.js";

const root = new URL("../", document.baseURI);

export function airflowLink(path, text) {
  const address = new URL(path, root).href;
  return h("a", { href: address, class: "airflow", onclick: (event) => open(event, address) }, text);
}

function open(event, address) {
  if (window.parent === window || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  // The frame's sandbox forbids it to navigate the window around it; a link of that window may.
  const around = window.parent.document;
  const link = around.createElement("a");
  link.href = address;
  around.body.append(link);
  link.click();
  link.remove();
}
