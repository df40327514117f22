// Asking people before something is changed. `confirm()` does nothing in Airflow's frame.
import { Refusal, notice, tell } from "./api.js";
import { h } from "./dom.js";

const dialog = () => document.getElementById("dialog");

/** A dialogue with fields; resolves to their values by name, or to null if somebody thought better of it. */
export function confirm(title, text, action, fields = []) {
  const place = dialog();
  return new Promise((done) => {
    const end = (answer) => {
      place.close();
      done(answer);
    };
    const inputs = [...fields, { name: "why", label: "Why (is recorded)", maxlength: 500 }].map(field);
    const read = () => Object.fromEntries(inputs.map(({ input }) => [input.name, input.type === "checkbox" ? input.checked : input.value.trim()]));
    place.replaceChildren(
      h("h2", { id: "dialog-title" }, title),
      h("p", null, text),
      inputs.map(({ label }) => label).length ? h("div", { class: "fields" }, inputs.map(({ label }) => label)) : "",
      h(
        "p",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => end(null) }, "Leave it"),
        h("button", { type: "button", class: "primary", id: "dialog-yes", onclick: () => end(read()) }, action),
      ),
    );
    place.oncancel = (event) => {
      event.preventDefault();
      end(null);
    };
    place.onkeydown = (event) => {
      if (event.key === "Enter" && event.target instanceof HTMLInputElement) end(read());
    };
    place.showModal();
  });
}

function field({ name, label, type = "text", value = "", ...others }) {
  const input = h("input", { name, type, value: type === "checkbox" ? null : value, ...others });
  return { input, label: type === "checkbox" ? h("label", null, input, " ", label) : h("label", null, label, input) };
}

/** A button that asks, tells the server, and says what came of it. `body` makes what is sent of the fields. */
export function action({ label, title, text, path, done, fields = [], body = (given) => given, after, ...attributes }) {
  const act = async () => {
    const given = await confirm(title, text, label, fields);
    if (given === null) return;
    try {
      await tell(path, body(given));
      notice(done, "good");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      notice(`Not done: ${error.message}`, "bad");
    }
    after?.();
  };
  return h("button", { type: "button", ...attributes, onclick: act }, label);
}

