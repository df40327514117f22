// Runners, queues, what is wrong, what runs and what failed.
import { ask, poll } from "./api.js";
import { action } from "./ask.js";
import { h, jobLink, number, row, section, show as put, state, table } from "./dom.js";
import { ago, count, duration, now } from "./words.js";

export function show(place) {
  const look = poll(
    async () => put(place, ...render(await ask("api/overview"), () => look.now())),
    (error) => put(place, h("p", { class: "quiet" }, `${error.message}. `), h("p", null, "Jobs of your DAGs are under ", h("a", { href: "jobs" }, "Jobs"), ".")),
  );
}

function render(view, again) {
  return [
    h("h1", null, "Overview"),
    problems(view),
    section("Runners", runners(view, again)),
    section("Queues", queues(view, again)),
    view.slurm.length ? section("Slurm", slurm(view)) : "",
    h(
      "div",
      { class: "columns" },
      section("Running now", jobs(view.working, "Nothing runs.", (job) => duration(now() - job.started))),
      section("Failed last", jobs(view.failed, "Nothing has failed.", (job) => ago(job.finished))),
    ),
    section("Steered lately", steered(view.steered)),
    h("p", { class: "quiet" }, `Air-Executor ${view.version}`, view.unread ? `; ${count(view.unread, "job")} still to be read` : ""),
  ];
}

function problems({ problems: found }) {
  if (found.length === 0) return h("p", { class: "healthy", "data-key": "health" }, "Nothing is wrong.");
  return h("ul", { class: "problems", "data-key": "health", role: "alert" }, found.map((each) => h("li", null, each)));
}

const RUNNER = ["Runner", "State", "Host", "Queues", "Slots in use", "Load", "Heartbeat", "Version", ""];

function runners(view, again) {
  const rows = view.runners.map((runner) =>
    row(
      runner.id,
      [runner.id, runner.embedded ? h("span", { class: "tag", title: "started by Airflow's executor" }, "embedded") : ""],
      state(runner.state),
      `${runner.host}, ${runner.pid}`,
      runner.queues.join(", "),
      [h("progress", { max: Math.max(1, runner.slots), value: runner.working, "aria-label": "slots in use" }), ` ${runner.working} of ${runner.slots}`],
      number(runner.load === null || runner.load === undefined ? "–" : runner.load.toFixed(2)),
      number(`${duration(runner.heartbeat_age)} ago`),
      runner.version,
      h("td", { class: "actions" }, view.can.steer && runner.state !== "dead" ? runnerActions(runner, again) : ""),
    ),
  );
  return table("Runners", RUNNER, rows, "No runner is alive.");
}

function runnerActions(runner, again) {
  const path = `api/runner/${encodeURIComponent(runner.id)}`;
  const drains = runner.state === "draining";
  return [
    drains
      ? action({
          label: "Resume",
          title: `Resume ${runner.id}?`,
          text: "It starts jobs again.",
          path: `${path}/resume`,
          done: `${runner.id} was told to start jobs again.`,
          after: again,
        })
      : action({
          label: "Drain",
          title: `Drain ${runner.id}?`,
          text: "Jobs that run go on to their end; nothing more is started.",
          path: `${path}/drain`,
          done: `${runner.id} was told to start nothing more.`,
          after: again,
        }),
    action({
      label: "Set …",
      title: `Set slots and queues of ${runner.id}`,
      text: "They hold until the runner ends. Jobs that run are not touched.",
      fields: [
        { name: "slots", label: "Slots", type: "number", min: 1, value: runner.slots },
        ...(runner.embedded ? [] : [{ name: "queues", label: "Queues, with commas between", value: runner.queues.join(", ") }]),
      ],
      body: ({ slots, queues, why }) => ({
        why,
        ...(Number(slots) !== runner.slots ? { slots: Number(slots) } : {}),
        ...(queues !== undefined && queues !== runner.queues.join(", ") ? { queues: queues.split(",").map((each) => each.trim()) } : {}),
      }),
      path: `${path}/set`,
      done: `${runner.id} was told to change.`,
      after: again,
    }),
  ];
}

const SLURM = ["Runner", "Answers", "To submit", "Waiting there", "Running there", "Why they wait"];

function slurm(view) {
  const rows = view.slurm.map((found) =>
    row(
      found.runner,
      found.runner,
      answers(found),
      number(found.to_submit.toLocaleString("en-GB")),
      number(found.waiting.toLocaleString("en-GB")),
      number([found.running.toLocaleString("en-GB"), found.held_on ? h("span", { class: "quiet", title: "Slurm says that they are over, but a process still holds them" }, `, ${found.held_on} over but held`) : ""]),
      h("td", null, found.waits.map((wait) => h("div", { class: "reason", title: wait.says, "data-key": wait.says }, `${wait.jobs.toLocaleString("en-GB")}: ${wait.says}`, wait.stuck ? h("strong", null, " (does not pass by waiting)") : ""))),
    ),
  );
  const pilots = view.slurm.flatMap((found) => found.pilots).map((pilot) => row(pilot.name, pilot.name, pilot.queue, pilot.id ?? "–", pilot.state, pilot.node ?? "–"));
  return [table("Slurm", SLURM, rows, ""), pilots.length ? table("Pilots", ["Pilot", "Queue", "Slurm job", "State", "Node"], pilots, "") : ""];
}

function answers(found) {
  if (!found.alive) return "the runner is gone";
  if (found.answers === null) return "not asked yet";
  return found.answers ? "yes" : h("span", { title: found.trouble }, "no, since ", ago(found.trouble_since));
}

const QUEUE = ["Queue", "Waiting", "Oldest waits", "Ended in the last 10 minutes", "Served by", ""];

function queues(view, again) {
  const rows = view.queues.map((queue) =>
    row(
      queue.name,
      [h("a", { href: `jobs?${new URLSearchParams({ queue: queue.name })}` }, queue.name), queue.paused ? [" ", state("paused"), h("span", { class: "quiet" }, ` by ${queue.paused.by}${queue.paused.why ? `: ${queue.paused.why}` : ""}`)] : ""],
      number(queue.waiting.toLocaleString("en-GB")),
      number(queue.oldest_age === null ? "–" : duration(queue.oldest_age)),
      number((queue.ended ?? 0).toLocaleString("en-GB")),
      queue.served_by ? count(queue.served_by, "runner") : "nobody",
      h("td", { class: "actions" }, view.can.steer ? queueAction(queue, again) : ""),
    ),
  );
  return table("Queues", QUEUE, rows, "No queue is served, and in none waits a job.");
}

function queueAction(queue, again) {
  const path = `api/queue/${encodeURIComponent(queue.name)}`;
  if (queue.paused) {
    return action({
      label: "Resume",
      title: `Resume the queue ${queue.name}?`,
      text: "Runners start its jobs again.",
      path: `${path}/resume`,
      done: `The queue ${queue.name} is resumed.`,
      after: again,
    });
  }
  return action({
    label: "Pause",
    title: `Pause the queue ${queue.name}?`,
    text: "No runner starts a job of it until it is resumed; jobs that run go on.",
    path: `${path}/pause`,
    done: `The queue ${queue.name} is paused.`,
    after: again,
  });
}

function steered(events) {
  const said = (event) => [event.what, event.slots === undefined ? "" : `${event.slots} slots`, event.queues === undefined ? "" : `queues ${[event.queues].flat().join(", ")}`].filter(Boolean).join(", ");
  const rows = events.toReversed().map((event) => row(`${event.at}${event.runner ?? event.queue}${event.what}`, number(ago(event.at)), `${event.event} ${event.runner ?? event.queue}`, said(event), event.by, h("td", { class: "reason", title: event.why }, event.why)));
  return table("Steered lately", ["When", "Runner or queue", "What", "By", "Why"], rows, "Nobody has steered a runner or a queue.");
}

function jobs(found, empty, when) {
  const rows = found.map((job) =>
    row(
      job.id,
      [jobLink(job.name), job.state === "failed" && job.reason ? h("div", { class: "quiet reason", title: job.reason }, job.reason) : ""],
      job.queue,
      number(when(job)),
    ),
  );
  return table(empty, ["Job", "Queue", ""], rows, empty);
}
