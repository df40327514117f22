// Which page an address means. Each address is a document of its own, so links, reloading and going back just work.
import { show as showHistory } from "./history.js";
import { show as showJob } from "./job.js";
import { show as showJobs } from "./jobs.js";
import { show as showOverview } from "./overview.js";
import { show as showTask } from "./task.js";

const path = location.pathname.slice(new URL(document.baseURI).pathname.length);
const [page, name] = path.split("/").map(decodeURIComponent);
const main = document.getElementById("main");

for (const link of document.querySelectorAll("#nav a")) {
  const own = new URL(link.href).pathname === location.pathname || (page === "job" && link.textContent === "Jobs");
  if (own) link.setAttribute("aria-current", "page");
}
if (page === "task") document.getElementById("nav").hidden = true;

const pages = { "": showOverview, jobs: showJobs, history: showHistory, task: showTask, job: (place) => showJob(place, name) };
pages[page]?.(main);
