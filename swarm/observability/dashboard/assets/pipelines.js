// Pipelines: the runs, and one run as a graph with its live status.

import { h } from "./dom.js";
import { graph } from "./graph.js";
import { age, agentLink, card, chip, clock, facts, gone, json, link, long, part, table, taskLink } from "./parts.js";

const isOver = (status) => ["completed", "complete", "skipped"].includes(status);

export const pipelines = {
  view: () => "pipelines", nav: "pipelines", ages: true,
  query: ({ id }) => (id ? { id } : {}),
  draw(shown, route) {
    if (route.id) return one(shown, route);
    return {
      title: "Pipelines",
      body: shown.pipelines && table("Pipelines", ["Status", "Run", "Pipeline", "Stages", "Started", "By"], shown.pipelines, (run) => {
        const done = run.stages.filter((stage) => isOver(stage.status)).length;
        return [chip(run.status), link("pipelines", run.id), run.name, ["number", h("span.progress", part(done, run.stages.length, "run"), ` ${done} / ${run.stages.length}`)], age(run.started_at), agentLink(run.requester)];
      }, "No pipeline was started."),
    };
  },
};

function one(shown, route) {
  const run = shown.pipeline;
  if (run === undefined) return { title: route.id, body: null };
  if (run === null) return { title: route.id, body: gone("such run") };
  const nodes = run.stages.map((stage) => ({
    id: stage.name, label: stage.name, kind: stage.status, note: stage.of > 1 ? `${stage.status} ${stage.tasks} of ${stage.of}` : stage.status,
    href: stage.task_ids.length ? `#/tasks/${encodeURIComponent(stage.task_ids[0])}` : undefined,
  }));
  const edges = run.stages.flatMap((stage) => stage.after.map((from) => ({ from, to: stage.name, kind: stage.status === "failed" ? "bad" : "" })));
  return {
    title: `${run.name}: ${run.id}`,
    body: [
      h("p.lead", chip(run.status), " ", run.cancelled && String(run.cancelled)),
      graph(nodes, edges, "Stages of the pipeline"),
      table("Stages", ["Stage", "Status", "Work", "Agent", "Began", "Ended", "Tasks", "Error"], run.stages, (stage) => [h("b", stage.name), chip(stage.status), stage.label, agentLink(stage.agent), clock(stage.started_at), clock(stage.ended_at), stage.task_ids.slice(0, 5).map((id) => [taskLink(id), " "]), long(stage.error)]),
      h("div.grid", card("Facts", facts([["Started", clock(run.started_at)], ["By", agentLink(run.requester)]])), card("Given", json(run.given)),
        run.stages.filter((stage) => stage.output !== undefined).map((stage) => card(`Output of ${stage.name}`, json(stage.output)))),
    ],
  };
}
