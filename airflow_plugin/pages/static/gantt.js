// When each task of a job ran, as bars on one axis.
import { h, s } from "./dom.js";
import { duration, now, seconds } from "./words.js";

const MOST = 200;
const ROW = 18;
/** Per cent of the width that the names take. */
const NAMES = 22;
const TICKS = 5;

export function gantt(job, choose) {
  const started = job.tasks.filter((task) => task.started_at);
  if (started.length === 0) return null;
  const begin = seconds(job.started_at ?? started[0].started_at);
  const end = Math.max(begin + 0.001, ...started.map(endOf), job.finished_at ? seconds(job.finished_at) : now());
  const place = (moment) => `${((Math.max(0, moment - begin) / (end - begin)) * 100).toFixed(3)}%`;
  const shown = started.slice(0, MOST);
  const height = shown.length * ROW;
  const bars = s("svg", { x: `${NAMES}%`, width: `${100 - NAMES}%`, height: height + ROW, overflow: "visible" }, axis(end - begin, height), shown.map((task, at) => bar(task, at, place, end - begin)));
  const names = shown.map((task, at) => s("text", { x: 0, y: at * ROW + 13, class: "name", onclick: () => choose(task.id) }, shorten(task.id), s("title", null, task.id)));
  const text = `When ${shown.length} tasks ran, in ${duration(end - begin)}`;
  return h(
    "div",
    { "data-key": "gantt" },
    s("svg", { class: "gantt", width: "100%", height: height + ROW, role: "img", "aria-label": text }, s("svg", { width: `${NAMES - 1}%`, height }, names), bars),
    started.length > MOST ? h("p", { class: "quiet" }, `The first ${MOST} of the tasks shown below.`) : "",
  );
}

const endOf = (task) => (task.completed_at ? seconds(task.completed_at) : now());
const shorten = (name) => (name.length > 32 ? `${name.slice(0, 31)}…` : name);

function axis(length, height) {
  return Array.from({ length: TICKS + 1 }, (_, at) => {
    const x = `${(at / TICKS) * 100}%`;
    const anchor = at === 0 ? "start" : at === TICKS ? "end" : "middle";
    return [s("line", { class: "tick", x1: x, x2: x, y1: 0, y2: height }), s("text", { class: "tick", x, y: height + 14, "text-anchor": anchor }, duration((length * at) / TICKS))];
  });
}

function bar(task, at, place, length) {
  const [from, to] = [seconds(task.started_at), endOf(task)];
  const width = `${Math.max(0.15, ((to - from) / length) * 100).toFixed(3)}%`;
  const text = `${task.id}: ${task.status}, ${duration(to - from)}`;
  return s("rect", { class: `bar ${task.status}`, x: place(from), y: at * ROW + 3, width, height: ROW - 6, rx: 2 }, s("title", null, text));
}
