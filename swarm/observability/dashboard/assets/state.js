// The tree of state: folders, one document, its versions and what they changed.

import { h } from "./dom.js";
import { age, agentLink, brief, card, chip, clock, count, facts, json, link, none, span } from "./parts.js";

const at = (path, name) => link("state", "", name, path ? { path } : {});

function crumbs(path) {
  const parts = path.match(/[^.[\]"]+|\["(?:[^"\\]|\\.)*"\]|\[\d+\]/g) ?? [];
  let sofar = "";
  return h("p.lead", at("", "tree"), parts.map((part) => {
    sofar += sofar && !part.startsWith("[") ? `.${part}` : part;
    return h("span", { key: sofar }, " › ", at(sofar, part));
  }));
}

const SIGNS = { add: "+", remove: "−", change: "~", more: "…" };

const changes = (list) => h("ul.diff", list.map((each, index) => h("li", { key: `${index} ${each.path}`, class: `d-${each.op}` },
  h("b", SIGNS[each.op]), " ", h("code", each.path || (each.op === "more" ? "more changes" : "the whole value")), " ",
  "old" in each && h("del", brief(each.old, 200)), " ", "new" in each && h("ins", brief(each.new, 200)))));

export const state = {
  view: () => "state", nav: "state", ages: true,
  query: ({ query }) => query,
  draw(shown, route) {
    const path = route.query.path ?? "";
    const { folder, document: found, history } = shown;
    const isFolder = folder && (folder.length > 1 || folder[0]?.path !== path);
    return {
      title: "State",
      body: [
        crumbs(path),
        isFolder && folder.length > 0 && card("Folder", h("ul.folder", folder.map((each) => h("li", { key: each.path },
          at(each.path, each.is_document ? each.name : `${each.name} ›`), !each.is_document && h("small", ` ${count(each.documents)}`))))),
        folder && !folder.length && !found && !history?.length && none("Nothing stands here."),
        found && found.path === path && h("div.grid",
          card("Document", facts([["Version", found.version], ["Written", age(found.at)], ["By", agentLink(found.author)], ["Bytes", count(found.bytes)], found.expires_in != null && ["Expires in", span(found.expires_in)]])),
          card("Value", found.is_large ? none("Too large to show.") : json(found.value))),
        history?.length > 0 && card("History, the newest first", h("ol.trail", history.map((each) => h("li", { key: String(each.revision) },
          clock(each.at), " ", chip(each.kind), " by ", agentLink(each.author), h("small", ` version ${each.old_version} → ${each.version}`), changes(each.diff))))),
      ],
    };
  },
};
