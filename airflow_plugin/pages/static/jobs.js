// All jobs that one may see: filtered, page by page. The address says which, so it can be kept and sent to others.
import { ask, poll } from "./api.js";
import { h, jobLink, number, row, show as put, state, table } from "./dom.js";
import { ago, count, duration, now } from "./words.js";

const STATES = ["waiting", "working", "completed", "failed", "cancelled"];
const COUNT_EVERY = 10000;

export function show(place) {
  const address = new URLSearchParams(location.search);
  const filter = new URLSearchParams([...address].filter(([name]) => name !== "before"));
  const seen = { counts: null, queues: [], triggers: [], counted: -Infinity, refused: "" };
  let page = null;
  const draw = () => put(place, h("h1", null, "Jobs"), form(address, seen), page ? list(page, address) : h("p", { class: "quiet" }, seen.refused || "Looking …"));
  draw();
  poll(
    async () => {
      page = await ask("api/jobs", address);
      seen.refused = "";
      draw();
      if (performance.now() - seen.counted < COUNT_EVERY) return;
      Object.assign(seen, await ask("api/counts", filter), { counted: performance.now() });
      draw();
    },
    (error) => {
      page = null;
      seen.refused = error.message;
      draw();
    },
  );
}

/** Go to the same list with another filter. */
function change(address, name, value) {
  const next = new URLSearchParams(address);
  next.delete("before");
  if (value) next.set(name, value);
  else next.delete(name);
  if (String(next) !== String(address)) location.assign(next.size ? `jobs?${next}` : "jobs");
}

function form(address, { counts, queues, triggers }) {
  const choose = (name, label, values) => {
    const chosen = address.get(name) ?? "";
    const all = ["", ...new Set([...values, ...(chosen ? [chosen] : [])])];
    const options = all.map((value) => h("option", { value, selected: value === chosen, "data-key": `o${value}` }, value || "all"));
    return h("label", null, label, h("select", { name, onchange: (event) => change(address, name, event.target.value) }, options));
  };
  const type = (name, label, example) =>
    h("label", null, label, h("input", { type: "search", name, value: address.get(name) ?? "", placeholder: example, onchange: (event) => change(address, name, event.target.value.trim()) }));
  const all = counts ? Object.values(counts).reduce((sum, each) => sum + each, 0) : null;
  return h(
    "div",
    { class: "filter", role: "search", "data-key": "filter" },
    choose("state", "State", STATES),
    choose("queue", "Queue", queues),
    choose("trigger", "Trigger", triggers),
    type("label", "Label", "name=value"),
    type("text", "Name or reason", "text"),
    address.size ? h("a", { href: "jobs", class: "reset" }, "all jobs") : "",
    h("p", { class: "counts", role: "status" }, counts ? [count(all, "job"), ...STATES.filter((each) => counts[each]).map((each) => h("span", { class: "count" }, state(each), ` ${counts[each].toLocaleString("en-GB")}`))] : ""),
  );
}

export const COLUMNS = ["Job", "State", "Queue", "Created", "Waited", "Ran", "Trigger", "Why"];

function list(page, address) {
  const older = new URLSearchParams(address);
  older.set("before", page.next ?? "");
  const newest = new URLSearchParams(address);
  newest.delete("before");
  return [
    table("Jobs", COLUMNS, page.jobs.map(jobRow), page.unread ? "No job yet." : "No job fits."),
    h(
      "p",
      { class: "pages", "data-key": "pages" },
      address.has("before") ? h("a", { href: `jobs?${newest}` }, "Newest") : "",
      page.next ? h("a", { href: `jobs?${older}`, rel: "next" }, "Older") : "",
      page.unread ? h("span", { class: "quiet" }, `${count(page.unread, "job")} still to be read`) : "",
    ),
  ];
}

/** A job in a list. */
export function jobRow(job) {
  const started = job.started !== null;
  return row(
    job.id,
    h("td", null, jobLink(job.name), labels(job.labels)),
    [state(job.state), job.attempt > 1 ? h("span", { class: "quiet" }, ` attempt ${job.attempt}`) : ""],
    job.queue,
    number(ago(job.created)),
    number(duration(job.wait ?? (job.state === "waiting" ? now() - job.queued : null))),
    number(duration(job.run ?? (job.state === "working" && started ? now() - job.started : null))),
    job.trigger,
    h("td", { class: "reason", title: job.reason }, job.state === "completed" ? "" : job.reason),
  );
}

function labels(found) {
  const names = Object.keys(found).filter((name) => !["kind", "ti_id", "map_index", "logical_date"].includes(name));
  const text = (name) => `${name}=${found[name]}`;
  const link = (name) => h("a", { href: `jobs?${new URLSearchParams({ label: text(name) })}`, class: "label", title: text(name) }, text(name));
  return names.length ? h("div", { class: "labels" }, names.map(link)) : "";
}
