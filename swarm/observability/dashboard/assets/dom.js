// Elements from descriptions. Text becomes text nodes and never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Describe an element: h("p.big", {title: "more"}, "text", other); the second may be left out. */
export function h(name, props, ...kids) {
  const [tag, ...styles] = name.split(".");
  if (props?.constructor !== Object || props.tag) { kids.unshift(props); props = {}; }
  if (styles.length) props = { class: styles.join(" "), ...props };
  return { tag, props, kids: kids.flat(9).filter((kid) => kid != null && kid !== false && kid !== "") };
}

/** Make the children of an element as described; what is there already is kept. */
export function render(parent, kids) {
  const focused = document.activeElement;
  reconcile(parent, kids.flat(9).filter((kid) => kid != null && kid !== false), false);
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

function reconcile(parent, kids, inSvg) {
  const keyed = new Map();
  const free = [];
  for (const node of parent.childNodes) {
    const key = node.described?.props?.key;
    if (key === undefined || keyed.has(key)) free.push(node);
    else keyed.set(key, node);
  }
  let at = parent.firstChild;
  for (const kid of kids) {
    const key = kid.props?.key;
    let node;
    if (key === undefined) {
      const index = free.findIndex((each) => isSame(each, kid));
      if (index >= 0) node = free.splice(index, 1)[0];
    } else {
      node = keyed.get(key);
      if (node && isSame(node, kid)) keyed.delete(key);
      else node = undefined;
    }
    node = node ? update(node, kid, inSvg) : create(kid, inSvg);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const node of [...free, ...keyed.values()]) node.remove();
}

function isSame(node, kid) {
  return typeof kid === "object" ? node.described?.tag === kid.tag : node.nodeType === Node.TEXT_NODE;
}

function create(kid, inSvg) {
  if (typeof kid !== "object") return document.createTextNode(String(kid));
  const isSvg = inSvg || kid.tag === "svg";
  const node = isSvg ? document.createElementNS(SVG, kid.tag) : document.createElement(kid.tag);
  for (const [name, value] of Object.entries(kid.props)) set(node, name, value);
  reconcile(node, kid.kids, isSvg);
  node.described = kid;
  return node;
}

function update(node, kid, inSvg) {
  if (typeof kid !== "object") {
    if (node.data !== String(kid)) node.data = String(kid);
    return node;
  }
  const before = node.described.props;
  for (const name of Object.keys(before)) if (!(name in kid.props)) set(node, name, undefined);
  for (const [name, value] of Object.entries(kid.props)) if (before[name] !== value) set(node, name, value);
  reconcile(node, kid.kids, inSvg || kid.tag === "svg");
  node.described = kid;
  return node;
}

function set(node, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) node[name] = value || null;
  else if (name === "width%") node.style.setProperty("--part", `${value}%`);
  else if (name === "indent") node.style.setProperty("--indent", value);
  else if (name === "value" && "value" in node) node.value = value ?? "";
  else if (value === undefined || value === false || value === null) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
