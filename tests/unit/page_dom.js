// As much of a browser as page.js needs. Reads {blocks, counts, script, steps} and prints what is shown after each step.
"use strict";
const { readFileSync } = require("node:fs");
const { blocks, counts, script, steps, language } = JSON.parse(readFileSync(0, "utf-8"));

class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], dataset: {}, text: "", value: "", className: "" });
  }
  set textContent(text) { this.text = text; this.children = []; }
  get textContent() { return this.text + this.children.map((child) => child.textContent).join(""); }
  append(...children) { this.children.push(...children); }
  prepend(...children) { this.children.unshift(...children); }
  replaceChildren(...children) { this.children = children; }
  setAttribute(name, value) { this[name] = value; }
  all(name) { return [...(this.name === name ? [this] : []), ...this.children.flatMap((child) => child.all(name))]; }
}

const named = {};
for (const id of ["bar", "search", "state", "records", "where", "previous", "next", "counts"]) named[id] = new Element(id);
named.state.value = "all";
named.counts.textContent = JSON.stringify(counts);
const scripts = blocks.map(([records, text]) => {
  const element = new Element("script");
  element.dataset.records = records;
  element.textContent = text;
  return element;
});
const document = {
  getElementById: (id) => named[id],
  querySelectorAll: () => scripts,
  createElement: (name) => new Element(name),
};
const window = { scrollTo() {} };
new Function("document", "navigator", "window", "setTimeout", "clearTimeout", script)(
  document, { language }, window, (work) => work(), () => {},
);
const shown = () => ({
  where: named.where.textContent,
  ids: named.records.all("h2").map((head) => head.text),
  states: named.records.all("h2").map((head) => head.children[0].text),
  texts: named.records.all("p").map((paragraph) => paragraph.text),
  images: named.records.all("img").map((image) => image.src),
  links: named.records.all("a").map((link) => link.href),
  options: named.state.children.map((option) => option.text),
  ends: [named.previous.disabled, named.next.disabled],
});
const results = [shown()];
for (const [id, event, value] of steps) {
  if (value !== undefined) named[id].value = value;
  named[id][event]();
  results.push(shown());
}
console.log(JSON.stringify(results));
