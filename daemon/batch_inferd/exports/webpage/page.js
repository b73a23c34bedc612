"use strict";
// The records stand in blocks of JSON, which cost the browser little until they are looked at.
(() => {
  const PER_PAGE = 50;
  const KEPT = 8; // blocks that stay decoded
  const ENGLISH = {
    search: "search", previous: "previous", next: "next", all: "all records", answered: "answered",
    failed: "failed", missing: "no answer", nothing: "no record fits", lost: "cannot be shown: ",
    where: (first, last, all) => `${first} – ${last} of ${all}`,
  };
  const CHINESE = {
    search: "搜索", previous: "上一页", next: "下一页", all: "全部记录", answered: "成功",
    failed: "失败", missing: "没有回答", nothing: "没有符合条件的记录", lost: "无法显示：",
    where: (first, last, all) => `第 ${first} – ${last} 条，共 ${all} 条`,
  };
  const say = navigator.language.toLowerCase().startsWith("zh") ? CHINESE : ENGLISH;
  const at = (id) => document.getElementById(id);
  const [search, state, main] = [at("search"), at("state"), at("records")];
  const blocks = [...document.querySelectorAll("script[data-records]")];
  const starts = [];
  let total = 0;
  for (const block of blocks) {
    starts.push(total);
    total += Number(block.dataset.records);
  }
  const kept = new Map();
  let found = null; // numbers of the records that fit; null: all do
  let first = 0;

  const decoded = (number) => {
    let rows = kept.get(number);
    kept.delete(number);
    rows ??= JSON.parse(blocks[number].textContent);
    kept.set(number, rows);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return rows;
  };

  const record = (number) => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= number) low = middle;
      else high = middle - 1;
    }
    return decoded(low)[number - starts[low]];
  };

  const select = () => {
    const wanted = search.value.trim().toLowerCase();
    first = 0;
    found = null;
    if (wanted || state.value !== "all") {
      found = [];
      blocks.forEach((block, number) => {
        JSON.parse(block.textContent).forEach((row, index) => {
          if (state.value !== "all" && row.state !== state.value) return;
          const texts = [row.task ?? "", row.id, row.prompt, row.text, ...row.images.map((image) => image.name)];
          if (texts.some((text) => text.toLowerCase().includes(wanted))) found.push(starts[number] + index);
        });
      });
    }
    show();
  };

  const made = (name, text = "", kind = "") => {
    const element = document.createElement(name);
    element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  const pictured = (image) => {
    if (!image.href) return made("span", image.name, "other");
    const link = made("a", image.kind === "file" ? "" : image.name, "other");
    link.href = image.href;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    if (image.kind === "file") {
      const thumbnail = made("img");
      thumbnail.loading = "lazy";
      thumbnail.alt = thumbnail.title = image.name;
      thumbnail.onerror = () => thumbnail.replaceWith(made("span", say.lost + image.name, "lost"));
      thumbnail.src = image.href;
      link.append(thumbnail);
    }
    return link;
  };

  const card = (row) => {
    const article = made("article", "", row.images.length ? "" : "plain");
    const head = made("h2", row.task === undefined ? row.id : `${row.task} · ${row.id}`);
    head.prepend(made("span", say[row.state], `state ${row.state}`));
    article.append(head);
    if (row.images.length) {
      const images = made("div", "", "images");
      images.append(...row.images.map(pictured));
      article.append(images);
    }
    const words = made("div");
    if (row.prompt) words.append(made("p", row.prompt, "text prompt"));
    words.append(made("p", row.text, row.state === "answered" ? "text" : `text ${row.state}`));
    article.append(words);
    return article;
  };

  const show = () => {
    const all = found === null ? total : found.length;
    const last = Math.min(first + PER_PAGE, all);
    const cards = [];
    for (let place = first; place < last; place += 1) {
      cards.push(card(record(found === null ? place : found[place])));
    }
    main.replaceChildren(...(cards.length ? cards : [made("p", say.nothing)]));
    at("where").textContent = all ? say.where(first + 1, last, all) : "";
    at("previous").disabled = first === 0;
    at("next").disabled = last === all;
  };

  const turn = (by) => {
    first += by * PER_PAGE;
    show();
    window.scrollTo(0, 0);
  };

  const counts = JSON.parse(at("counts").textContent);
  for (const name of ["all", "answered", "failed", "missing"]) {
    const option = made("option", `${say[name]} (${name === "all" ? total : counts[name]})`);
    option.value = name;
    state.append(option);
  }
  search.placeholder = say.search;
  search.setAttribute("aria-label", say.search);
  at("previous").textContent = say.previous;
  at("next").textContent = say.next;
  let timer = 0;
  search.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(select, 200);
  };
  state.onchange = select;
  at("previous").onclick = () => turn(-1);
  at("next").onclick = () => turn(1);
  at("bar").onsubmit = (event) => event.preventDefault();
  show();
})();
