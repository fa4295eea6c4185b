// Locks, semaphores and barriers, and which turns wait for which.

import { h } from "./dom.js";
import { graph } from "./graph.js";
import { agentLink, card, chip, count, none, span, tableCard } from "./parts.js";

const holder = (each) => h("li", { key: each.lease }, agentLink(each.owner), " ", h("small", [each.mode, each.permits && `${each.permits} permits`, each.token && `token ${each.token}`].filter(Boolean).join(", ")),
  h("small", ` for ${span(each.held_for)}, ends in ${span(each.expires_in)}`));
const waiter = (each, at) => h("li", { key: `${at} ${each.session}` }, agentLink(each.owner), h("small", ` ${each.is_upgrade ? "upgrade" : each.mode ?? ""} for ${span(each.waited)}`));

const leases = (label, list) => tableCard(label, ["Name", "Held by", "Queue"], list, (each) => [h("b", each.resource), h("ul.plain", each.holders.map(holder)), [h("ol.plain", each.queue.map(waiter)), each.queued > each.queue.length && `and ${count(each.queued - each.queue.length)} more`]], "None is held or waited for.");

function waits({ nodes, edges, cycle, refused, more }) {
  const names = new Map(nodes.map((node) => [node.id, node.label]));
  const inCycle = new Set(cycle);
  const isBad = ({ from, to }) => inCycle.has(from) && cycle[(cycle.indexOf(from) + 1) % cycle.length] === to;
  const drawn = nodes.map((node) => ({ ...node, kind: inCycle.has(node.id) ? "failed" : "", note: edges.find((edge) => edge.from === node.id)?.what, href: node.agent ? `#/agents/${encodeURIComponent(node.agent)}` : undefined }));
  const lines = edges.filter((edge) => edge.to !== null).map((edge) => ({ ...edge, kind: isBad(edge) ? "bad" : "" }));
  return card("Who waits for whom",
    cycle.length > 0 && h("p.problem", `A cycle: ${[...cycle, cycle[0]].map((id) => names.get(id)).join(" → ")}`),
    nodes.length ? graph(drawn, lines, "Turns and tasks that wait") : none("Nothing waits."),
    nodes.length > 0 && h("details", h("summary", "The same as text"), h("ul.plain", edges.map((edge, at) => h("li", { key: String(at), class: isBad(edge) ? "error" : "" },
      `${names.get(edge.from)} waits for ${edge.what}${edge.to === null ? "" : `, held up by ${names.get(edge.to)}`}`)))),
    more > 0 && h("p", `and ${count(more)} others`),
    refused.length > 0 && h("div", h("h3", "Deadlocks that were refused, the newest first"), h("ol", refused.map((each, at) => h("li", { key: `${at} ${each[0]}` }, h("ul.plain.error", each.map((line) => h("li", line))))))));
}

export const locks = {
  view: () => "locks", nav: "locks", query: () => ({}),
  draw(shown) {
    return {
      title: "Locks and barriers",
      body: shown.locks && [
        waits(shown.graph),
        leases("Locks", shown.locks),
        leases("Semaphores", shown.semaphores),
        tableCard("Barriers", ["Name", "Arrived", "Missing", "Generation", "Waiting"], shown.barriers, (each) => [h("b", each.resource), ["number", `${each.arrived} of ${each.parties}`], each.missing ? chip("pending") : chip("complete"), ["number", each.generation], h("ul.plain", each.waiting.map(waiter))], "No barrier has been used."),
      ],
    };
  },
};
