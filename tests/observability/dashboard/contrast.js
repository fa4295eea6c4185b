// Return the lowest contrast of a text to what is behind it, and that text.
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map(
    (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const parse = (text) => text.match(/[\d.]+/g).map(Number);
const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
        const color = parse(getComputedStyle(each).backgroundColor);
        if (color.length < 4 || color[3] > 0.5) return color;
    }
    return [255, 255, 255];
};
let lowest = [99, ""];
for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].find((n) => n.nodeType === 3 && n.data.trim());
    if (!text || node.closest("svg, script, noscript") || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const pair = [light(parse(style.color)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < lowest[0]) lowest = [ratio, text.data];
}
return lowest;
