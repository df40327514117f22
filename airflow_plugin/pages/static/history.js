// What ended when, how long it waited and ran, and why it failed.
import { ask, poll } from "./api.js";
import { h, row, number, s, section, show as put, table } from "./dom.js";
import { absolute, count, duration, now } from "./words.js";

const RANGES = { "1h": [3600, 60, "Last hour"], "6h": [21600, 300, "Last 6 hours"], "24h": [86400, 900, "Last day"], "7d": [604800, 7200, "Last 7 days"] };
const HEIGHT = 160;
const WIDTH = 1000;
const PARTS = ["completed", "cancelled", "failed"];

export function show(place) {
  const address = new URLSearchParams(location.search);
  const range = address.get("range") in RANGES ? address.get("range") : "1h";
  const [length, step] = RANGES[range];
  const filter = new URLSearchParams([...address].filter(([name]) => name !== "range"));
  let last = -Infinity;
  poll(
    async () => {
      // What has ended does not change: once in five seconds is enough for a chart.
      if (performance.now() - last < 5000) return;
      const end = Math.ceil(now() / step) * step;
      const found = await ask("api/history", [...filter, ["begin", end - length], ["end", end], ["step", step]]);
      last = performance.now();
      put(place, render(found, range, filter));
    },
    (error) => put(place, h("p", { class: "quiet" }, error.message)),
  );
}

function render(history, range, filter) {
  const per = history.step === 60 ? "each minute" : `each ${duration(history.step).replace(/ 0 (s|min)$/, "")}`;
  const { total } = history;
  return [
    h("h1", null, "History"),
    h(
      "p",
      { class: "statuses" },
      Object.entries(RANGES).map(([name, [, , text]]) => h("a", { href: `history?${new URLSearchParams([...filter, ["range", name]])}`, class: "filter-button", "aria-current": name === range ? "true" : null, "data-key": name }, text)),
    ),
    section(`Ended ${per}`, h("p", { class: "legend" }, PARTS.map((part) => h("span", null, h("span", { class: `swatch ${part}` }), `${total[part].toLocaleString("en-GB")} ${part}`))), bars(history)),
    h("div", { class: "columns" }, section("Time to start", times(history, "wait")), section("Time to run", times(history, "run"))),
    section("Failures by reason", failures(history)),
    history.unread ? h("p", { class: "quiet" }, `${count(history.unread, "job")} still to be read`) : "",
  ];
}

function bars({ steps, step }) {
  const most = Math.max(1, ...steps.map((each) => PARTS.reduce((sum, part) => sum + each[part], 0)));
  const width = WIDTH / steps.length;
  const shapes = steps.map((each, at) => {
    let top = HEIGHT;
    const parts = PARTS.filter((part) => each[part]).map((part) => {
      const height = (each[part] / most) * HEIGHT;
      top -= height;
      return s("rect", { class: part, x: at * width + width * 0.1, y: top, width: width * 0.8, height });
    });
    const text = `${absolute(each.start)}: ${PARTS.map((part) => `${each[part]} ${part}`).join(", ")}`;
    return s("g", null, s("rect", { class: "hover", x: at * width, y: 0, width, height: HEIGHT }), parts, s("title", null, text));
  });
  return chart(shapes, most.toLocaleString("en-GB"), steps, step, "Jobs that ended, by time");
}

function times({ steps, step, total }, what) {
  if (!total[what]) return h("p", { class: "quiet" }, "Nothing ended that had started.");
  const most = Math.max(0.001, ...steps.map((each) => (each[what] ? each[what].p95 : 0)));
  const width = WIDTH / steps.length;
  const line = (key) => {
    const parts = [];
    steps.forEach((each, at) => {
      if (each[what]) parts.push([at * width + width / 2, HEIGHT - (each[what][key] / most) * (HEIGHT - 4)]);
    });
    return [
      s("polyline", { class: `line ${key}`, points: parts.map((point) => point.map((each) => each.toFixed(1)).join(",")).join(" ") }),
      parts.length < 40 ? parts.map(([x, y]) => s("rect", { class: `dot ${key}`, x: x - 2, y: y - 2, width: 4, height: 4 })) : "",
    ];
  };
  const { p50, p95, p99 } = total[what];
  return [
    h("p", { class: "legend" }, h("span", null, h("span", { class: "swatch p50" }), `half within ${duration(p50)}`), h("span", null, h("span", { class: "swatch p95" }), `95 of 100 within ${duration(p95)}`), h("span", null, `99 within ${duration(p99)}`)),
    chart([line("p50"), line("p95")], duration(most), steps, step, what === "wait" ? "Time to start" : "Time to run"),
  ];
}

function chart(shapes, most, steps, step, label) {
  const clock = (moment) => new Date(moment * 1000).toLocaleString("en-GB", step < 3600 ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  return h(
    "figure",
    null,
    h("span", { class: "quiet top" }, most),
    s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, shapes),
    h("figcaption", { class: "quiet" }, h("span", null, clock(steps[0].start)), h("span", null, clock(steps.at(-1).start + step))),
  );
}

function failures({ reasons, total }) {
  const rows = reasons.map(([reason, amount], at) => row(String(at), number(amount.toLocaleString("en-GB")), reason));
  return total.failed ? table("Failures", ["Jobs", "Why (N is any number)"], rows, "") : h("p", { class: "quiet" }, "Nothing has failed.");
}
