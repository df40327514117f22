// The tab on a task instance: the jobs of its tries.
import { ask, poll } from "./api.js";
import { h, show as put, table } from "./dom.js";
import { COLUMNS, jobRow } from "./jobs.js";

export function show(place) {
  const wanted = new URLSearchParams(location.search);
  // Airflow leaves the place of the map index as it is where a task is not mapped.
  if (!/^-?\d+$/.test(wanted.get("map_index") ?? "")) wanted.set("map_index", "-1");
  poll(
    async () => {
      const { jobs } = await ask("api/task", wanted);
      put(place, h("h1", null, "Jobs of this task instance"), table("Jobs", COLUMNS, jobs.map(jobRow), "It has no job in this home: it has not been started by AirExecutor, or its jobs were removed since."));
    },
    (error) => put(place, h("p", { class: "quiet" }, error.message)),
  );
}
