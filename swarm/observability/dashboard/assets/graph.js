// A drawing of a graph in layers, from left to right.

import { h } from "./dom.js";
import { cut, scroll } from "./parts.js";

const WIDE = 190, TALL = 40, GAP_X = 60, GAP_Y = 18;

/** Lay out nodes {id, label, kind, href, note} and edges {from, to, kind}. */
export function graph(nodes, edges, label) {
  const layer = new Map(nodes.map((node) => [node.id, 0]));
  for (let round = 0; round < nodes.length; round++) {
    let moved = false;
    for (const { from, to } of edges) {
      const next = layer.get(from) + 1;
      if (layer.has(from) && layer.has(to) && layer.get(to) < next && next < nodes.length) { layer.set(to, next); moved = true; }
    }
    if (!moved) break;
  }
  const used = [...new Set(layer.values())].sort((a, b) => a - b);
  const rows = used.map(() => 0);
  const place = new Map();
  for (const node of nodes) {
    const column = used.indexOf(layer.get(node.id));
    place.set(node.id, { x: 8 + column * (WIDE + GAP_X), y: 8 + rows[column]++ * (TALL + GAP_Y) });
  }
  const most = Math.max(1, ...rows);
  const width = used.length * (WIDE + GAP_X) - GAP_X + 16;
  const height = most * (TALL + GAP_Y) - GAP_Y + 16;
  for (const node of nodes) {
    const column = used.indexOf(layer.get(node.id));
    place.get(node.id).y += ((most - rows[column]) * (TALL + GAP_Y)) / 2;
  }
  const line = ({ from, to, kind }) => {
    const a = place.get(from), b = place.get(to);
    if (!a || !b) return null;
    const y1 = a.y + TALL / 2, y2 = b.y + TALL / 2;
    const isBack = b.x <= a.x;
    const x1 = a.x + WIDE, x2 = b.x - 2;
    const bend = isBack ? 50 : Math.max(20, (x2 - x1) / 2);
    const path = isBack && y1 === y2 ? `M${a.x + WIDE / 2},${a.y} C${a.x + WIDE / 2},${a.y - 30} ${b.x + WIDE / 2},${b.y - 30} ${b.x + WIDE / 2},${b.y}`
      : isBack ? `M${a.x + WIDE / 2},${y1 < y2 ? a.y + TALL : a.y} L${b.x + WIDE / 2},${y1 < y2 ? b.y - 2 : b.y + TALL + 2}`
        : `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
    return h("path", { key: `${from} ${to}`, d: path, class: `edge ${kind ?? ""}`, "marker-end": kind === "bad" ? "url(#tip-bad)" : "url(#tip)" });
  };
  const tip = (id, kind) => h("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", orient: "auto", class: kind }, h("path", { d: "M0,0 L8,4 L0,8 z" }));
  return scroll(label, h("svg.graph", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label },
    h("defs", tip("tip", ""), tip("tip-bad", "bad")),
    edges.map(line),
    nodes.map((node) => {
      const { x, y } = place.get(node.id);
      const inner = h("g", { transform: `translate(${x},${y})`, class: `s-${node.kind ?? ""}` },
        h("title", [node.label, node.note].filter(Boolean).join(": ")), h("rect", { width: WIDE, height: TALL, rx: 8 }),
        h("text", { x: WIDE / 2, y: node.note ? 17 : 25 }, cut(node.label, 26)), node.note && h("text", { x: WIDE / 2, y: 32, class: "note" }, cut(node.note, 32)));
      return h("a", { key: node.id, href: node.href }, inner);
    })));
}
