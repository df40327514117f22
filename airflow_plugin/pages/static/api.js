// Asking the API server, once and again.

const TIMEOUT = 15000;
const EVERY = 1000;
const SLOWEST = 30000;
/** So many times as long as an answer took, and no longer than that, nothing is asked: a server that has much to do is not given more. */
const [REST, LONGEST_REST] = [2, 5000];

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
  try {
    const answer = await fetch(address, { ...options, signal: AbortSignal.timeout(TIMEOUT) });
    if (!answer.ok) throw new Refusal(answer.status, await reason(answer));
    return answer.status === 204 ? null : await answer.json();
  } catch (error) {
    if (error instanceof Refusal) throw error;
    // No connection, or one that broke off; or something between us and the server that speaks in its name.
    throw new Refusal(0, error instanceof SyntaxError ? "the answer is not the api-server's" : "the api-server does not answer");
  }
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
 * Look again and again: each second, more and more rarely while that fails or is slow, and not at all while nobody sees
 * the page. `look` may throw a `Refusal`; one that says that there is nothing to see (403, 404, 422) goes to `refused`.
 */
export function poll(look, refused) {
  let failures = 0;
  let wanted = false;
  let wake = () => {};
  const pause = (time) =>
    new Promise((done) => {
      const timer = setTimeout(done, wanted ? 0 : time);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  const seen = () =>
    document.hidden ? new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })) : null;
  const run = async () => {
    for (;;) {
      const began = performance.now();
      wanted = false;
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
      const rest = Math.min(LONGEST_REST, REST * (performance.now() - began));
      await pause(Math.max(rest, Math.min(SLOWEST, EVERY * 2 ** failures)));
      while (document.hidden) await seen();
    }
  };
  run();
  return {
    /** Look at once; what is being looked at may be what was wanted before. */
    now: () => {
      wanted = true;
      wake();
    },
  };
}
