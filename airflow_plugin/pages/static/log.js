// The log of a task: its end, and what comes to it while it is written. Pieces are fetched by offset and never twice.
import { Refusal, ask } from "./api.js";
import { h } from "./dom.js";

const EVERY = 500;
const SLOW = 2000;
/** Characters that are shown at most; what is older goes. */
const KEPT = 2 ** 21;
/** What colours text in a terminal, or moves its cursor. */
const ESCAPES = /\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\^_])/g;

export class LogView {
  constructor(job) {
    this.job = job;
    this.task = null;
    this.round = 0;
    this.text = h("pre", { tabindex: "0", "aria-label": "Log" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.open(this.task, this.next) }, "Go on");
    this.says = h("span", { class: "quiet", role: "status" });
    this.follow = h("input", { type: "checkbox", checked: true });
    this.element = h(
      "div",
      { class: "log" },
      h("p", { class: "bar" }, h("label", null, this.follow, " follow"), h("button", { type: "button", onclick: () => this.read(0) }, "From the start"), h("button", { type: "button", onclick: () => this.read(null) }, "The end"), this.more, this.says),
      this.text,
    );
  }

  /** Somebody wants to read from there; who reads the start does not want to be taken to the end. */
  read(offset) {
    this.follow.checked = offset === null;
    this.open(this.task, offset);
  }

  /** Show the log of a task, its end unless an offset is given. */
  open(task, offset = null) {
    this.task = task;
    this.round += 1;
    this.text.replaceChildren();
    this.says.textContent = "";
    this.more.hidden = true;
    if (task !== null) this.run(this.round, offset);
  }

  async run(round, begin) {
    let offset = begin;
    while (round === this.round) {
      const pause = await this.look(offset, round).then(
        (piece) => {
          if (round !== this.round || !piece) return null;
          offset = this.add(piece, offset);
          // All of a log of gigabytes would come and go: who reads it from the start says when to go on.
          if (begin !== null && piece.next < piece.size && this.isFull) return this.rest(piece);
          if (piece.next < piece.size && piece.text) return 0;
          return piece.over ? null : EVERY;
        },
        (error) => {
          if (!(error instanceof Refusal)) throw error;
          this.says.textContent = error.status === 404 ? "nothing is written yet" : error.message;
          return error.status === 403 ? null : SLOW;
        },
      );
      if (pause === null) return;
      await new Promise((done) => setTimeout(done, document.hidden ? SLOW : pause));
    }
  }

  look(offset) {
    return ask(`api/job/${encodeURIComponent(this.job)}/log/${encodeURIComponent(this.task)}`, offset === null ? [] : { offset });
  }

  add(piece, asked) {
    if (asked !== null && piece.start !== asked) this.text.replaceChildren();
    if (piece.text) {
      this.text.append(document.createTextNode(piece.text.replaceAll(ESCAPES, "")));
      this.trim();
      if (this.follow.checked) this.text.scrollTop = this.text.scrollHeight;
    }
    const hidden = piece.start > 0 && asked === null ? "the end; " : "";
    this.says.textContent = `${hidden}${piece.size.toLocaleString("en-GB")} bytes${piece.over ? "" : ", being written"}`;
    return piece.next;
  }

  rest(piece) {
    this.next = piece.next;
    this.more.hidden = false;
    this.says.textContent = `to ${piece.next.toLocaleString("en-GB")} of ${piece.size.toLocaleString("en-GB")} bytes`;
    return null;
  }

  get isFull() {
    return this.text.textContent.length >= KEPT / 2;
  }

  trim() {
    let length = this.text.textContent.length;
    while (length > KEPT && this.text.childNodes.length > 1) {
      length -= this.text.firstChild.data.length;
      this.text.firstChild.remove();
    }
  }
}
