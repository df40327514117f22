// One job: what became of it, its tasks, what they write, and who did what with it.
import { airflowLink } from "./airflow.js";
import { ask, poll } from "./api.js";
import { action } from "./ask.js";
import { h, number, row, section, show as put, state, table } from "./dom.js";
import { gantt } from "./gantt.js";
import { graph } from "./graph.js";
import { LogView } from "./log.js";
import { absolute, ago, count, duration, memory, now, seconds } from "./words.js";

const PAGE = 500;

export function show(place, name) {
  document.title = `${name} – Air-Executor`;
  const seen = { job: null, offset: 0, status: "", name };
  const log = new LogView(name);
  let again = null;
  const draw = () => {
    put(place, render(seen, log, { again, look, choose }));
    const kept = document.getElementById("log");
    if (kept && !kept.firstChild) kept.append(log.element);
  };
  const look = (changes) => {
    Object.assign(seen, changes, { known: "" });
    again.now();
  };
  const choose = (task) => {
    log.open(task);
    draw();
    document.getElementById("log")?.scrollIntoView({ block: "nearest" });
  };
  again = poll(
    async () => {
      const found = await ask(`api/job/${encodeURIComponent(name)}`, { known: seen.known ?? "", offset: seen.offset, status: seen.status, limit: PAGE });
      if (found) take(found);
      if (found || (seen.job && !isOver(seen.job))) draw();
    },
    (error) => put(place, h("p", { class: "quiet" }, `${error.message}: ${name}`), h("p", null, h("a", { href: "jobs" }, "All jobs"))),
  );
  const take = (found) => {
    const before = seen.job;
    seen.job = found;
    seen.known = found.known;
    if (found.can.logs && (log.task === null || before?.attempt !== found.attempt)) log.open(log.task ?? firstTask(found));
  };
}

const isOver = (job) => ["completed", "failed", "cancelled"].includes(job.state);

/** What one wants to read first: what failed, or else what runs. */
function firstTask({ tasks }) {
  const first = (status) => tasks.find((task) => task.status === status);
  return (first("failed") ?? first("running") ?? first("cancelled") ?? tasks.at(-1))?.id ?? null;
}

function render(seen, log, on) {
  const { job } = seen;
  return [
    h("h1", null, job.name, " ", state(job.state)),
    notes(job),
    facts(job),
    buttons(job, on.again),
    job.total + Object.keys(job.counts).length === 0 ? "" : tasks(seen, log, on),
    job.can.logs ? section("Log", h("p", null, log.task ? ["of the task ", h("code", null, log.task)] : "Choose a task."), h("div", { id: "log", "data-keep": "" })) : section("Log", h("p", { class: "quiet" }, "You may not read the task logs of this DAG.")),
    section("Who did what", audit(job)),
  ];
}

function notes(job) {
  const said = [...job.notes, ...(job.stop ? [`${job.stop.by} has asked for its end: ${job.stop.reason}`] : [])];
  return said.length ? h("ul", { class: "problems", "data-key": "notes" }, said.map((each) => h("li", null, each))) : "";
}

function facts(job) {
  const usage = job.usage ?? {};
  const queued = seconds(job.queued_at);
  const started = job.started_at ? seconds(job.started_at) : null;
  const end = job.finished_at ? seconds(job.finished_at) : now();
  const peak = usage.max_tree_rss_mb ?? usage.max_rss_mb;
  const pairs = [
    ["Why", job.state === "completed" ? null : job.reason],
    ["Airflow", job.airflow ? airflowLink(job.airflow, `${job.labels.dag_id} / ${job.labels.task_id} / ${job.labels.run_id}`) : null],
    ["Queue", [h("a", { href: `jobs?${new URLSearchParams({ queue: job.queue })}` }, job.queue), job.priority ? `, priority ${job.priority}` : ""]],
    ["Trigger", job.trigger],
    ["Attempt", [String(job.attempt), job.crashes ? `, ${count(job.crashes, "crash", "crashes")}` : ""]],
    ["Created", ago(job.created_at)],
    ["Waited", duration((started ?? end) - queued)],
    ["Ran", started === null ? null : duration(usage.wall_s ?? end - started)],
    ["Processor", usage.cpu_s === undefined ? null : duration(usage.cpu_s)],
    ["Memory", peak === undefined ? null : memory(peak)],
    ["Limits", limits(job)],
    ["Runner", job.runner ? `${job.runner.id ?? "–"} on ${job.runner.host}, process ${job.runner.pid}` : null],
    ["Slurm", job.slurm?.there ? inSlurm(job.slurm.there) : null],
    ["Submitted to Slurm", job.slurm?.there?.submitted_at ? ago(job.slurm.there.submitted_at) : null],
    ["Asks Slurm for", job.slurm ? asked(job.slurm.asked) : null],
    ["Exit", job.exit && job.state !== "completed" ? `${job.exit.kind}${job.exit.code === null ? "" : `, code ${job.exit.code}`}${job.exit.signal === null ? "" : `, signal ${job.exit.signal}`}` : null],
    ["Labels", Object.keys(job.labels).length ? h("span", { class: "labels" }, Object.entries(job.labels).map(([name, value]) => h("a", { class: "label", href: `jobs?${new URLSearchParams({ label: `${name}=${value}` })}` }, `${name}=${value}`))) : null],
  ];
  return h("dl", { "data-key": "facts" }, pairs.filter(([, value]) => value !== null).map(([name, value]) => h("div", { "data-key": name }, h("dt", null, name), h("dd", null, value))));
}

function inSlurm({ id, state: word, reason, says, stuck, partition, node }) {
  const place = [partition && `partition ${partition}`, node && `node ${node}`].filter(Boolean).join(", ");
  const title = reason ? `${word} (${reason})` : word;
  const said = [id ? `job ${id}` : "", word && says ? `${word}: ${says}` : word].filter(Boolean).join(", ");
  return [h("span", { title }, said), place ? `; ${place}` : "", stuck ? h("strong", null, " (does not pass by waiting)") : ""];
}

function asked(found) {
  const said = Object.entries(found).map(([name, value]) => `${name}=${[value].flat().join(" ")}`);
  return said.length ? said.join(", ") : "what the cluster has by default";
}

function limits(job) {
  const found = [job.timeout && duration(job.timeout), job.memory_mb && memory(job.memory_mb), job.output_mb && `${memory(job.output_mb)} of output`].filter(Boolean);
  return found.length ? found.join(", ") : null;
}

function buttons(job, again) {
  if (!job.can.edit) return "";
  const path = `api/job/${encodeURIComponent(job.id)}`;
  const after = () => again.now();
  if (!isOver(job)) {
    const text = job.is_airflows ? "Its processes are ended, and the task fails in Airflow, which may try it again." : "Its processes are ended.";
    return h("p", { class: "buttons", "data-key": "buttons" }, action({ label: "Cancel the job", title: "Cancel this job?", text, path: `${path}/cancel`, done: "The job was asked to end.", after, class: "danger" }));
  }
  if (job.is_airflows) return h("p", { class: "quiet", "data-key": "buttons" }, "To run it again, clear the task in Airflow.");
  const keep = { name: "keep_completed", type: "checkbox", label: "Leave completed tasks as they are" };
  return h("p", { class: "buttons", "data-key": "buttons" }, action({ label: "Run again", title: "Run this job again?", text: "A new attempt begins, in the same directory.", fields: job.total > 1 ? [keep] : [], path: `${path}/retry`, done: "The job waits for a new attempt.", after }));
}

// --- Tasks ---

function tasks(seen, log, on) {
  const { job } = seen;
  const all = Object.values(job.counts).reduce((sum, each) => sum + each, 0);
  if (all === 0) return "";
  const choose = (status) => on.look({ status: seen.status === status ? "" : status, offset: 0 });
  const statuses = Object.entries(job.counts).map(([status, amount]) => h("button", { type: "button", class: "filter-button", "aria-pressed": seen.status === status ? "true" : "false", "data-key": status, onclick: () => choose(status) }, state(status), ` ${amount.toLocaleString("en-GB")}`));
  const graphic = all > 1 ? graph(job, on.choose) : null;
  return section(
    "Tasks",
    all > 1 ? h("p", { class: "statuses", "data-key": "statuses" }, statuses) : "",
    gantt(job, on.choose),
    graphic ? h("details", { "data-key": "dependencies", open: all <= 60 }, h("summary", null, "Dependencies"), graphic) : "",
    table("Tasks", ["Task", "Status", "Started", "Ran", "Tries", "Exit", "Why"], job.tasks.map((task) => taskRow(task, log, on.choose)), "No task is in this state."),
    job.total > PAGE ? taskPages(seen, on) : "",
  );
}

function taskRow(task, log, choose) {
  const end = task.completed_at ? seconds(task.completed_at) : now();
  const ended = task.signal !== null && task.signal !== undefined ? `signal ${task.signal}` : (task.exit_code ?? "");
  const chosen = log.task === task.id;
  return row(
    task.id,
    h("td", null, h("button", { type: "button", class: "link", "aria-pressed": chosen ? "true" : "false", title: "show its log", onclick: () => choose(task.id) }, task.id)),
    state(task.status),
    number(ago(task.started_at)),
    number(task.started_at ? duration(end - seconds(task.started_at)) : "–"),
    number(task.retries ? `${task.tries} of ${task.retries + 1}` : String(task.tries ?? "")),
    number(String(ended)),
    h("td", { class: "reason", title: task.error }, task.error),
  );
}

function taskPages(seen, on) {
  const { job, offset } = seen;
  const last = Math.min(offset + PAGE, job.total);
  const go = (to) => () => on.look({ offset: to });
  return h(
    "p",
    { class: "pages", "data-key": "task-pages" },
    `${offset + 1} to ${last} of ${job.total.toLocaleString("en-GB")}`,
    offset ? h("button", { type: "button", "data-key": "before", onclick: go(Math.max(0, offset - PAGE)) }, "Before") : "",
    last < job.total ? h("button", { type: "button", "data-key": "after", onclick: go(offset + PAGE) }, "After") : "",
  );
}

// --- Audit ---

function audit(job) {
  const rows = job.events.map((event, at) =>
    row(
      String(at),
      number(h("time", { datetime: event.at, title: event.at }, event.at ? absolute(event.at) : "–")),
      number(String(event.attempt ?? "")),
      event.added === undefined ? [event.from ? [state(event.from), " → "] : "", event.to ? state(event.to) : (event.event ?? "")] : `${count(event.added, "task")} added`,
      event.by ?? "",
      h("td", { class: "reason" }, event.why),
    ),
  );
  return table("Who did what", ["When", "Attempt", "What", "By", "Why"], rows, "Nothing is recorded.");
}
