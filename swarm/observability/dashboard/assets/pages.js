// The pages: for each, the view it follows and what it draws of its sections.

import { h } from "./dom.js";
import { pipelines } from "./pipelines.js";
import { locks } from "./waits.js";
import { state } from "./state.js";
import { events } from "./events.js";
import { trace } from "./trace.js";
import { overview } from "./overview.js";
import { age, agentLink, brief, buttons, card, chip, clock, count, facts, filters, gone, isEmpty, json, link, long, pager, part, span, table, tableCard, taskLink } from "./parts.js";

const STATUSES = ["pending", "running", "complete", "failed", "cancelled", "escalated"];

function progress({ progress, status }) {
  const { percent, message } = progress ?? {};
  return percent == null || status !== "running" ? "" : h("span.progress", { title: message || undefined }, part(percent, 100, "run"), ` ${Math.round(percent)} %`);
}

const taskRow = (task) => [
  chip(task.status), link("tasks", task.id, task.kind), ["mono", taskLink(task.id)], agentLink(task.assignee),
  ["number", `${task.attempt} / ${task.max_retries + 1}`], ["number", age(task.status_since)],
  task.status === "complete" ? "" : [progress(task), " ", task.error ? h("span.error", brief(task.error)) : brief(task.why ?? "")],
];

const HEADS = ["Status", "Kind", "Task", "Agent", "Attempt", "Since", "Error, or what it waits for"];

const tasks = {
  view: (route) => (route.id ? "task" : "tasks"), nav: "tasks", ages: true,
  query: ({ id, query }) => (id ? { id } : query),
  draw(shown, route, context) {
    if (route.id) return one(shown, route, context);
    return {
      title: "Tasks",
      body: [
        filters(route, context, [
          { name: "status", label: "Status", choices: STATUSES },
          { name: "kind", label: "Kind", hint: "report.*", options: shown.kinds ?? [] },
          { name: "agent", label: "Agent" }, { name: "error", label: "Error" },
        ]),
        h("p.tabs", STATUSES.map((status) => link("tasks", "", `${status} ${count(shown.by_status?.[status])}`, { status }))),
        shown.tasks && table("Tasks", HEADS, shown.tasks, taskRow, "No task fits."),
        pager(route, context, shown.more),
      ],
    };
  },
};

function one(shown, route, context) {
  const task = shown.task;
  if (task === undefined) return { title: "Task", body: null };
  if (task === null) return { title: "Task", body: gone(`task ${route.id}`) };
  const isDone = task.status === "complete";
  const isOver = isDone || ["failed", "cancelled"].includes(task.status);
  const failed = task.attempts.filter((each) => each.error).at(-1);
  return {
    title: task.kind,
    body: [
      h("p.lead", chip(task.status), " ", h("code", task.id), " ", progress(task)),
      buttons(shown, context, [
        task.status === "escalated" && ["retry", task.id, "Retry"],
        !isOver && ["cancel", task.id, "Cancel"],
        (task.status === "escalated" || task.status === "pending") && ["resolve", task.id, "Resolve"],
      ].filter(Boolean)),
      task.error && h("section.cause", { key: "cause", "aria-label": "Cause" },
        h("h2", isDone ? "Why an attempt failed" : "Why it failed"), h("pre", failed?.error || task.error),
        failed && h("p", "attempt ", failed.number, " by ", agentLink(failed.agent), " after ", span(failed.seconds), ", at ", clock(failed.ended_at))),
      h("p", task.why, " ", link("trace", task.id, "Show the trace")),
      h("div.grid",
        card("Facts", facts([
          ["Requester", agentLink(task.requester)], ["Agent", agentLink(task.assignee)], ["For", task.address || "anybody"],
          ["Attempt", `${task.attempt} of ${task.max_retries + 1}`], ["Priority", task.priority], ["Submitted", clock(task.created_at)],
          ["In this status for", age(task.status_since)], task.deadline && ["Deadline", clock(task.deadline)],
          task.lease_ends_in != null && ["Lease ends in", span(task.lease_ends_in)], task.token && ["Token", task.token],
          task.parent && ["Part of", taskLink(task.parent)], task.key && ["Key", task.key],
          task.escalate_to && ["Escalates to", task.escalate_to], task.cancel_requested != null && ["Cancel requested", task.cancel_requested || "yes"],
        ])),
        card("Payload", json(task.payload)),
        isDone && card("Result", json(task.result)),
        task.partial != null && card("Partial result", json(task.partial)),
        !isEmpty(task.metadata) && card("Metadata", json(task.metadata))),
      tableCard("Attempts", ["#", "Agent", "Began", "Took", "Outcome", "Error"], task.attempts, (each) => [["number", each.number], agentLink(each.agent), clock(each.started_at), ["number", span(each.seconds)], chip(each.outcome), long(each.error)], "No attempt has begun."),
      task.steps.length > 0 && tableCard("Steps", ["Step", "Agent", "Recorded", "Result"], task.steps, (each) => [each.name, agentLink(each.agent), clock(each.at), h("code", brief(each.result))]),
      task.handoffs.length > 0 && tableCard("Handoffs", ["Status", "From", "To", "Requested", "Notes", "Remaining"], task.handoffs, (each) => [chip(each.status), agentLink(each.sender), agentLink(each.receiver ?? each.to), clock(each.requested_at), brief(each.reason || each.notes), brief(each.remaining)]),
      task.checkpoints.length > 0 && tableCard("Checkpoints", ["#", "Agent", "Saved", "What", "State"], task.checkpoints, (each) => [["number", each.seq], agentLink(each.agent), clock(each.at), each.description, h("code", brief(each.state))]),
      task.children.length > 0 && tableCard("Parts", ["Status", "Kind", "Task"], task.children, (each) => [chip(each.status), each.kind, ["mono", taskLink(each.id)]]),
      card("Audit trail", h("ol.trail", task.history.map((entry, at) => h("li", { key: String(at), class: `t-${entry.status}` },
        clock(entry.at), " ", h("b", entry.step), " → ", chip(entry.status), " by ", agentLink(entry.agent), entry.reason && [" ", long(entry.reason)])))),
    ],
  };
}

const agents = {
  view: (route) => (route.id ? "agent" : "agents"), nav: "agents", ages: true,
  query: ({ id, query }) => (id ? { name: id } : query),
  draw(shown, route, context) {
    if (route.id) return agent(shown, route, context);
    const most = Math.max(1, ...(shown.agents ?? []).map((each) => each.load));
    return {
      title: "Agents",
      body: [
        filters(route, context, [
          { name: "status", label: "Status", choices: ["initializing", "idle", "busy", "paused", "draining", "error"] },
          { name: "text", label: "Name or type" },
        ]),
        shown.agents && table("Agents", ["Agent", "Type", "Status", "Load", "Does", "Waits for", "Handled", "Failed", "Restarts"], tree(shown.agents), (each) => [
          h("span.tree", { indent: each.depth }, agentLink(each.name), each.group && h("small", ` ${each.group}`)), each.type, chip(each.status),
          ["number", h("span.progress", part(each.load, most), ` ${count(each.load)}`)],
          doing(each), each.waits_for.map((what) => h("span.wait", brief(what))),
          ["number", count(each.handled)], ["number", each.failures ? h("b.error", count(each.failures)) : "0"], ["number", count(each.restarts)],
        ], "No agent fits."),
        pager(route, context, shown.more),
        shown.failures?.count > 0 && card("Failures that reached no asker", failures(shown.failures.newest)),
      ],
    };
  },
};

const doing = (each) => [
  each.turn && h("span", h("code", each.turn), ` ${span(each.turn_age)}`), each.aside.map((what) => h("code", ` + ${what}`)),
  each.tasks.map((id) => [" ", taskLink(id)]),
];

/** Agents below the agents that spawned them. */
function tree(list) {
  const names = new Set(list.map((each) => each.name));
  const below = new Map();
  for (const each of list) {
    const above = names.has(each.spawner) && each.spawner !== each.name ? each.spawner : "";
    if (!below.has(above)) below.set(above, []);
    below.get(above).push(each);
  }
  const rows = [];
  const add = (above, depth) => {
    for (const each of below.get(above) ?? []) { rows.push({ ...each, depth }); add(each.name, depth + 1); }
  };
  add("", 0);
  return rows;
}

const failures = (list) => h("ul.plain", list.map((each) => h("li", { key: `${each.at} ${each.agent}` },
  clock(each.at), " ", agentLink(each.agent), " → ", each.decision, " ", long(each.trace ? `${each.error}\n\n${each.trace}` : each.error))));

function agent(shown, route, context) {
  const each = shown.agent;
  if (each === undefined) return { title: route.id, body: null };
  const past = shown.failures ?? [];
  if (each === null) return { title: route.id, body: [gone("such agent"), past.length > 0 && card("Failures", failures(past))] };
  return {
    title: each.name,
    body: [
      h("p.lead", chip(each.status), " ", each.type, " ", each.role !== each.type && `as ${each.role}`),
      buttons(shown, context, [each.status === "paused" ? ["resume", each.name, "Resume"] : ["pause", each.name, "Pause"]]),
      h("div.grid",
        card("Now", facts([
          ["Does", doing(each)], ["Waits for", each.waits_for.length ? h("ul.plain", each.waits_for.map((what) => h("li", what))) : "nothing"],
          ["In hand or queued", count(each.load)], ["Last sign of life", `${span(each.heartbeat_age)} ago`],
        ])),
        card("So far", facts([
          ["Handled", count(each.handled)], ["Failed", count(each.failures)], ["Restarts", count(each.restarts)], ["Late answers", count(each.late)],
          ["Started", age(each.started_at)], ["Spawned by", agentLink(each.spawner)], ["Group", each.group], ["Restart", each.restart], ["Capabilities", each.capabilities.join(", ") || "–"],
        ]))),
      each.error && h("section.cause", { key: "cause" }, h("h2", "Last error"), h("pre", each.error)),
      past.length > 0 && card("Failures", failures(past)),
      tableCard("Works on", HEADS, shown.tasks ?? [], taskRow, "No task."),
      card("Newest events", h("ul.plain", (shown.events ?? []).map((event) => h("li", { key: event.id }, clock(event.at), " ", h("b", event.type), " ", h("code", brief(event.payload)))))),
    ],
  };
}

export const PAGES = { "": overview, tasks, agents, state, locks, pipelines, events, trace };
