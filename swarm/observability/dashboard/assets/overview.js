// The overview: the swarm in numbers.

import { h } from "./dom.js";
import { agentLink, brief, card, chip, clock, count, link, long, none, part, rate, span, spark, tableCard } from "./parts.js";

const KEPT = 120;
const ORDER = ["running", "pending", "escalated", "failed", "cancelled", "complete"];
let samples = [];

/** Remember the counters, for the rates. */
function sample(shown) {
  const last = samples.at(-1);
  if (last && shown.now - last.now < 0.2) return;
  const left = shown.tasks?.seconds_in?.running?.count ?? 0;
  samples.push({ now: shown.now, commits: shown.revision, requests: shown.agents.handled, attempts: left });
  if (samples.length > KEPT) samples.shift();
}

function rates(name) {
  return samples.slice(1).map((each, at) => Math.max(0, each[name] - samples[at][name]) / (each.now - samples[at].now));
}

function tile(label, value, more, href, kind) {
  const inner = [h("span.label", label), h("strong", value), more];
  return h(href ? "a" : "div", { class: `tile ${kind ?? ""}`, key: label, href }, inner);
}

function speed(label, name) {
  const numbers = rates(name);
  const newest = numbers.slice(-8);
  const mean = newest.length ? newest.reduce((a, b) => a + b, 0) / newest.length : 0;
  return tile(label, h("span", rate(mean), h("small", " /s")), spark(numbers, `${label}: ${rate(mean)} a second`));
}

function statuses(by) {
  const total = Object.values(by).reduce((a, b) => a + b, 0);
  const there = ORDER.filter((status) => by[status]);
  return card("Tasks by status",
    h("div.stack", { "aria-hidden": "true" }, there.map((status) => h("span", { key: status, class: `s-${status}`, "width%": Math.max(1, (100 * by[status]) / total) }))),
    h("p.tabs", ORDER.map((status) => h("a", { key: status, href: `#/tasks?status=${status}` }, chip(status), ` ${count(by[status])}`))));
}

function reasons(by) {
  const list = Object.entries(by);
  const most = Math.max(1, ...list.map(([, number]) => number));
  return card("Why attempts failed", list.length ? h("ul.bars", list.map(([reason, number]) => h("li", { key: reason },
    link("tasks", "", h("span", h("b", count(number)), " ", brief(reason, 120)), { error: reason }), part(number, most, "bad")))) : none("No attempt has failed."));
}

function durations(by) {
  const most = Math.max(1e-9, ...Object.values(by).map((each) => each.p95));
  return tableCard("Seconds in each status", ["Status", "Left it", "Mean", "95 of 100 within"], ORDER.filter((status) => by[status]), (status) => [
    chip(status), ["number", count(by[status].count)], ["number", span(by[status].mean)], ["number", h("span.progress", part(by[status].p95, most), " ", span(by[status].p95))],
  ], "No task has changed its status yet.");
}

function kinds(by) {
  const there = ORDER.filter((status) => Object.values(by).some((each) => each[status]));
  return tableCard("Tasks by kind", ["Kind", ...there], Object.entries(by).slice(0, 100), ([kind, counts]) => [
    link("tasks", "", kind, { kind }), ...there.map((status) => ["number", counts[status] ? link("tasks", "", count(counts[status]), { kind, status }) : "·"]),
  ], "No task was submitted.");
}

export const overview = {
  view: () => "overview", nav: "", query: () => ({}),
  start() { samples = []; },
  draw(shown) {
    if (!shown.agents) return { title: "Overview", body: shown.phase && none(`The swarm is ${shown.phase}.`) };
    sample(shown);
    const { agents, tasks, health, failures, locks, semaphores, barriers, events } = shown;
    const by = tasks.by_status ?? {};
    const isBad = ["degraded", "critical"].includes(health.status);
    const waiting = Object.entries(tasks.waiting ?? {});
    return {
      title: "Overview",
      body: [
        h("div.tiles",
          tile("Health", health.status, h("span", `${health.issues.length || "no"} issue${health.issues.length === 1 ? "" : "s"}`), "", isBad ? "bad" : health.status === "healthy" ? "good" : ""),
          tile("Agents", count(agents.total), h("span", `${count(agents.by_status.busy)} busy, ${count(agents.load)} requests in hand`), "#/agents"),
          tile("Running tasks", count(by.running), h("span", `${count(by.pending)} pending, ${count(tasks.ready)} due`), "#/tasks?status=running"),
          tile("Failed tasks", count(by.failed), h("span", `${count(by.escalated)} escalated`), "#/tasks?status=failed", by.failed ? "bad" : ""),
          speed("Requests handled", "requests"), speed("Attempts ended", "attempts"), speed("Commits", "commits"),
          tile("Waits", count(locks.queued + semaphores.queued + barriers.waiting), h("span", `locks held: ${count(locks.held)}`), "#/locks")),
        (health.issues.length > 0 || failures.count > 0 || events.dead_letters > 0 || shown.store.recovered.length > 0) && card("Alerts", h("ul.plain",
          health.issues.map((issue) => h("li", { key: issue, class: "error" }, issue)),
          events.dead_letters > 0 && h("li", { key: "dead" }, link("state", "", `${count(events.dead_letters)} dead letters`, { path: "dead_letters" })),
          shown.store.recovered.map((note) => h("li", { key: note }, note)),
          failures.newest.slice(0, 5).map((each) => h("li", { key: `${each.at} ${each.agent}` }, clock(each.at), " ", agentLink(each.agent), " failed, then: ", each.decision, " ",
            long(each.trace ? `${each.error}\n\n${each.trace}` : each.error))))),
        h("div.grid", statuses(by), reasons(tasks.failure_reasons ?? {}), durations(tasks.seconds_in ?? {}),
          waiting.length > 0 && card("What pending tasks wait for", h("ul.bars", waiting.map(([why, number]) => h("li", { key: why }, h("b", count(number)), " ", why))))),
        kinds(tasks.by_kind ?? {}),
      ],
    };
  },
};
