// Times and amounts in words.
import { h } from "./dom.js";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const all = Math.max(0, seconds);
  if (all < 0.9995) return `${Math.round(all * 1000)} ms`;
  if (all < 9.95) return `${all.toFixed(1)} s`;
  const whole = Math.round(all);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min ${whole % MINUTE} s`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)} h ${Math.floor((whole % HOUR) / MINUTE)} min`;
  return `${Math.floor(whole / DAY)} d ${Math.floor((whole % DAY) / HOUR)} h`;
}

/** A time as seconds since the epoch, from what a file or the index says. */
export const seconds = (moment) => (typeof moment === "string" ? Date.parse(moment) / 1000 : moment);
export const now = () => Date.now() / 1000;
export const absolute = (moment) => new Date(seconds(moment) * 1000).toLocaleString("en-GB", { timeZoneName: "short" });

/** How long ago something was; when exactly is its title. */
export function ago(moment) {
  if (moment === null || moment === undefined || moment === "") return "–";
  const at = seconds(moment);
  if (!Number.isFinite(at)) return "–";
  const age = now() - at;
  const text = age < 1 ? "just now" : `${duration(Math.floor(age))} ago`;
  return h("time", { datetime: new Date(at * 1000).toISOString(), title: absolute(at) }, text);
}

export const count = (amount, one, many = `${one}s`) => `${amount.toLocaleString("en-GB")} ${amount === 1 ? one : many}`;
export const memory = (mib) => (mib === null || mib === undefined ? "–" : mib < 1024 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`);
