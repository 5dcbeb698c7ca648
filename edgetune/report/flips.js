// The browser of flips: rows that two models answer differently, a page of them at a time.
"use strict";
(() => {
  const byId = id => document.getElementById(id);
  const data = byId("flips-data");
  const root = byId("flips-browser");
  if (!data || !root) return;
  const { models, rows } = JSON.parse(data.textContent);
  const PAGE = 25, LONGEST = 1500;
  const first = byId("flips-first"), second = byId("flips-second");
  const kind = byId("flips-kind"), search = byId("flips-search");
  const list = byId("flips-list"), said = byId("flips-said");
  const back = byId("flips-back"), on = byId("flips-on");
  let found = [], page = 0, haystack = null;

  const KINDS = {
    lost: ["Lost: right, then wrong", (a, b) => a === 1 && b === 0],
    gained: ["Gained: wrong, then right", (a, b) => a === 0 && b === 1],
    flipped: ["Lost or gained", (a, b) => a !== b],
    both_wrong: ["Both wrong", (a, b) => a === 0 && b === 0],
    both_right: ["Both right", (a, b) => a === 1 && b === 1],
    differ: ["Answers differ in any way", null],
    all: ["All rows", () => true],
  };
  const graded = rows.length > 0 && Array.isArray(rows[0].right);
  const count = number => number.toLocaleString("en");

  function make(tag, className = "", text = "") {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text) element.textContent = text;
    return element;
  }

  function matches(name, row, a, b) {
    if (name === "differ") return row.answers[a] !== row.answers[b];
    return KINDS[name][1](graded ? row.right[a] : 0, graded ? row.right[b] : 0);
  }

  function countKinds() {
    const a = Number(first.value), b = Number(second.value);
    for (const option of kind.options) {
      let number = 0;
      for (const row of rows) if (matches(option.value, row, a, b)) number++;
      option.textContent = `${KINDS[option.value][0]} (${count(number)})`;
    }
  }

  function texts() {
    haystack ??= rows.map(row => [row.prompt, row.expected].join("\n").toLowerCase());
    return haystack;
  }

  function filter() {
    const a = Number(first.value), b = Number(second.value);
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = words.length ? texts() : null;
    found = [];
    rows.forEach((row, number) => {
      if (!matches(kind.value, row, a, b)) return;
      if (asked) {
        const answers = `${row.texts[row.answers[a]]}\n${row.texts[row.answers[b]]}`.toLowerCase();
        if (!words.every(word => asked[number].includes(word) || answers.includes(word))) return;
      }
      found.push(number);
    });
    page = 0;
    draw(words);
  }

  function mark(element, text, words) {
    const shown = text.length > LONGEST ? text.slice(0, LONGEST) : text;
    const lower = shown.toLowerCase();
    let at = 0;
    while (at < shown.length) {
      let next = -1, length = 0;
      // Lower case may be longer than its text (İ): then nothing is marked.
      for (const word of lower.length === shown.length ? words : []) {
        const place = lower.indexOf(word, at);
        if (place >= 0 && (next < 0 || place < next)) { next = place; length = word.length; }
      }
      if (next < 0) break;
      element.append(shown.slice(at, next), make("mark", "", shown.slice(next, next + length)));
      at = next + length;
    }
    element.append(shown.slice(at));
    if (shown.length < text.length) {
      const more = make("button", "more", `${count(text.length - shown.length)} more characters`);
      more.type = "button";
      more.addEventListener("click", () => { element.replaceChildren(); element.append(text); });
      element.append(" ", more);
    }
  }

  function field(title, text, words, verdict) {
    const part = make("div", verdict === undefined ? "text" : verdict ? "text right" : "text wrong");
    const head = make("p", "head", title);
    if (verdict !== undefined) head.append(" ", make("b", verdict ? "ok" : "no", verdict ? "right" : "wrong"));
    const body = make("p", "body");
    body.dir = "auto";
    if (text === "") body.append(make("i", "soft", "empty")); else mark(body, text, words);
    part.append(head, body);
    return part;
  }

  function draw(words) {
    const a = Number(first.value), b = Number(second.value);
    const start = page * PAGE, end = Math.min(start + PAGE, found.length);
    const items = found.slice(start, end).map(number => {
      const row = rows[number], item = make("li");
      const verdict = model => graded ? row.right[model] === 1 : undefined;
      item.append(make("h4", "", `Row ${count(number + 1)}`));
      item.append(field("Prompt", row.prompt, words), field("Expected", row.expected, words));
      const pair = make("div", "pair");
      pair.append(field(models[a], row.texts[row.answers[a]], words, verdict(a)));
      pair.append(field(models[b], row.texts[row.answers[b]], words, verdict(b)));
      item.append(pair);
      return item;
    });
    list.replaceChildren(...items);
    list.start = start + 1;
    back.disabled = page === 0;
    on.disabled = end >= found.length;
    said.textContent = found.length
      ? `Rows ${count(start + 1)} to ${count(end)} of ${count(found.length)}; ${count(rows.length)} rows in all`
      : `No such rows among ${count(rows.length)}`;
  }

  function turn(step) {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    const next = Math.min(Math.max(page + step, 0), last);
    if (next === page) return;
    page = next;
    draw(search.value.toLowerCase().split(/\s+/).filter(Boolean));
    said.focus();
    root.scrollIntoView({ block: "start" });
  }

  models.forEach((name, at) => {
    for (const choice of [first, second]) choice.append(new Option(name, String(at)));
  });
  for (const name of Object.keys(KINDS)) {
    if (graded || name === "differ" || name === "all") kind.append(new Option(KINDS[name][0], name));
  }
  const place = (name, otherwise) => String(Math.max(models.indexOf(name), otherwise));
  first.value = place(root.dataset.first, 0);
  second.value = place(root.dataset.second, Math.min(1, models.length - 1));
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 60);
  });
  for (const choice of [first, second]) {
    choice.addEventListener("change", () => { countKinds(); filter(); });
  }
  kind.addEventListener("change", filter);
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  byId("flips-swap").addEventListener("click", () => {
    [first.value, second.value] = [second.value, first.value];
    countKinds();
    filter();
  });
  root.addEventListener("keydown", event => {
    if (event.target.closest("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "n" || event.key === "ArrowRight") turn(1);
    else if (event.key === "p" || event.key === "ArrowLeft") turn(-1);
    else if (event.key === "/") { event.preventDefault(); search.focus(); }
  });
  countKinds();
  filter();
  root.hidden = false;
})();
