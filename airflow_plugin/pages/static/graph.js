// What the tasks of a job wait for, as layers from left to right. Above MOST tasks nobody can read it, and it is left out.
import { h, s } from "./dom.js";

export const MOST = 300;
const WIDTH = 150;
const HEIGHT = 26;
const ACROSS = 60;
const DOWN = 10;

export function graph(job, choose) {
  const tasks = job.tasks;
  if (job.total > MOST || tasks.length !== job.total || !tasks.some((task) => task.dependencies?.length)) return null;
  const places = arrange(tasks);
  const width = Math.max(...[...places.values()].map(({ x }) => x)) + WIDTH + 2;
  const height = Math.max(...[...places.values()].map(({ y }) => y)) + HEIGHT + 2;
  const edges = tasks.flatMap((task) => (task.dependencies ?? []).filter((other) => places.has(other)).map((other) => edge(places.get(other), places.get(task.id))));
  const nodes = tasks.map((task) => node(task, places.get(task.id), choose));
  return h(
    "div",
    { class: "scroll graph", "data-key": "graph", tabindex: "0", role: "region", "aria-label": "Dependencies of the tasks" },
    s("svg", { width, height, viewBox: `-1 -1 ${width} ${height}`, role: "img", "aria-label": `${tasks.length} tasks and what they depend on` }, edges, nodes),
  );
}

/** Each task one layer after the last that it depends on; within a layer, near those. */
export function arrange(tasks) {
  const layers = [];
  const layer = layersOf(tasks);
  for (const task of tasks) (layers[layer.get(task.id)] ??= []).push(task);
  const position = new Map();
  for (const members of layers) {
    const wish = (task) => {
      const known = (task.dependencies ?? []).filter((other) => position.has(other)).map((other) => position.get(other));
      return known.length ? known.reduce((sum, each) => sum + each, 0) / known.length : Infinity;
    };
    const wishes = new Map(members.map((task) => [task.id, wish(task)]));
    members.sort((one, other) => (wishes.get(one.id) === wishes.get(other.id) ? 0 : wishes.get(one.id) - wishes.get(other.id)));
    members.forEach((task, at) => position.set(task.id, at));
  }
  return new Map(tasks.map((task) => [task.id, { x: layer.get(task.id) * (WIDTH + ACROSS), y: position.get(task.id) * (HEIGHT + DOWN) }]));
}

function layersOf(tasks) {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const found = new Map();
  // A file may say anything: a task that waits for itself is in the layer where that was noticed.
  const visit = (task, above) => {
    if (found.has(task.id)) return found.get(task.id);
    if (above.has(task.id)) return 0;
    above.add(task.id);
    const needed = (task.dependencies ?? []).filter((other) => byId.has(other));
    const layer = Math.max(-1, ...needed.map((other) => visit(byId.get(other), above))) + 1;
    above.delete(task.id);
    found.set(task.id, layer);
    return layer;
  };
  tasks.forEach((task) => visit(task, new Set()));
  return found;
}

function edge(from, to) {
  const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const bend = Math.max(20, (x2 - x1) / 2);
  return s("path", { class: "edge", d: `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}` });
}

function node(task, { x, y }, choose) {
  const name = task.id.length > 20 ? `${task.id.slice(0, 19)}…` : task.id;
  return s(
    "g",
    { class: `node ${task.status}`, transform: `translate(${x},${y})`, onclick: () => choose(task.id) },
    s("title", null, `${task.id}: ${task.status}`),
    s("rect", { width: WIDTH, height: HEIGHT, rx: 4 }),
    s("text", { x: 8, y: 17 }, name),
  );
}
