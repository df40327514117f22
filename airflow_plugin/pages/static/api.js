// Asking the API server, once and again.

const TIMEOUT = 15000;
const EVERY = 1000;
const SLOWEST = 30000;

/** The server's no; `status` is 0 if there was no answer. */
export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** What a GET answers; null if it says that nothing is new. */
export const ask = (path, parameters = []) => {
  const query = new URLSearchParams([...new URLSearchParams(parameters)].filter(([, value]) => value !== ""));
  return send(query.size ? `${path}?${query}` : path, {});
};

export const tell = (path, body) =>
  send(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-Air-Executor": "1" },
  });

async function send(address, options) {
  let answer;
  try {
    answer = await fetch(address, { ...options, signal: AbortSignal.timeout(TIMEOUT) });
  } catch {
    throw new Refusal(0, "the api-server does not answer");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  throw new Refusal(answer.status, await reason(answer));
}

async function reason(answer) {
  if (answer.status === 401) return "you are not logged in to Airflow any more: log in and reload";
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") return detail;
    return detail.map((each) => each.msg).join("; ");
  } catch {
    return `the api-server answers with an error (${answer.status})`;
  }
}

/** Says in the header what does not work, and what was done. */
export function notice(text, kind = "") {
  const place = document.getElementById("notice");
  if (place.textContent !== text) place.textContent = text;
  place.className = kind;
}

/**
 * Look again and again: each second, more and more rarely while that fails, and not at all while nobody sees the page.
 * `look` may throw a `Refusal`; one that says that there is nothing to see (403, 404, 422) goes to `refused` instead.
 */
export function poll(look, refused) {
  let failures = 0;
  let wake = () => {};
  const pause = (time) =>
    new Promise((done) => {
      const timer = setTimeout(done, time);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  const seen = () =>
    document.hidden ? new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })) : null;
  const run = async () => {
    for (;;) {
      try {
        await look();
        if (failures) notice("");
        failures = 0;
      } catch (error) {
        if (!(error instanceof Refusal)) {
          notice("this page has a fault: reload it", "bad");
          throw error;
        }
        failures += 1;
        if (refused && [403, 404, 422].includes(error.status)) refused(error);
        else notice(`${error.message} (what is shown may be old)`, "bad");
      }
      await pause(Math.min(SLOWEST, EVERY * 2 ** failures));
      while (document.hidden) await seen();
    }
  };
  run();
  return { now: () => wake() };
}
