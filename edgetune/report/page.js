// What every report page does in the browser: light or dark, definitions of numbers, print.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = id => document.getElementById(id);

  // Light or dark. Style sheets do the rest; a page without memory starts as the system is.
  const KEY = "edgetune-theme";
  const remember = value => { try { localStorage.setItem(KEY, value); } catch { /* no memory here */ } };
  let kept = null;
  try { kept = localStorage.getItem(KEY); } catch { /* no memory here */ }
  for (const input of all(".theme input")) {
    if (input.value === kept) input.checked = true;
    input.addEventListener("change", () => remember(input.value));
  }

  // Definitions. A head or number links to its definition; here it opens where it was asked for.
  const box = byId("definition");
  function define(metric, from) {
    const source = byId(`definition-${metric}`);
    if (!source || !box) return false;
    const text = source.nextElementSibling;
    box.querySelector("b").textContent = source.dataset.title;
    box.querySelector("p").textContent = text.firstElementChild.textContent;
    const note = box.querySelector("small");
    const n = from.dataset.n;
    note.textContent = n ? `Behind this number: n = ${Number(n).toLocaleString("en")}`
      : text.lastElementChild.textContent;
    if (box.showPopover) box.showPopover(); else box.hidden = false;
    box.focus();
    return true;
  }
  document.addEventListener("click", event => {
    const from = event.target.closest("a[data-metric], td[data-metric]");
    if (!from || getSelection().toString()) return;
    if (define(from.dataset.metric, from) && from.matches("a")) event.preventDefault();
  });

  // Where a table becomes cards on a phone, its roles would be lost.
  for (const table of all("table")) {
    table.setAttribute("role", "table");
    for (const part of all("thead, tbody", table)) part.setAttribute("role", "rowgroup");
    for (const row of all("tr", table)) row.setAttribute("role", "row");
    for (const head of all("th", table)) {
      head.setAttribute("role", head.scope === "row" ? "rowheader" : "columnheader");
    }
    for (const cell of all("td", table)) cell.setAttribute("role", "cell");
  }

  // On paper everything is open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

  // A model's own tables, drawn for the one that is chosen.
  const choice = byId("table-model");
  const data = byId("tables-data");
  if (choice && data) {
    const models = JSON.parse(data.textContent);
    const place = byId("tables");
    const make = (tag, text = "", attributes = {}) => {
      const element = document.createElement(tag);
      element.textContent = text;
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    const drawCell = (table, row, at) => {
      const [title, metric] = table.columns[at];
      const cell = make("td", table.rows[row][at], { role: "cell", "data-label": title });
      if (!metric) cell.className = "words";
      if (metric) { cell.dataset.metric = metric; cell.dataset.n = table.n[row][at - 1] || ""; }
      if (table.heat.length) {
        cell.style.setProperty("--heat", table.heat[row][at - 1]);
      }
      return cell;
    };
    const drawTable = table => {
      const region = make("div", "", { class: "region", tabindex: "0", role: "region",
        "aria-label": table.title });
      const element = make("table", "", { role: "table",
        class: table.heat.length ? "heat" : "narrow" });
      const heads = make("tr", "", { role: "row" });
      for (const [title, metric] of table.columns) {
        const head = make("th", "", { scope: "col", role: "columnheader" });
        if (metric && !table.heat.length) {
          head.append(make("a", title, { href: `#definition-${metric}`, "data-metric": metric }));
        } else head.textContent = title;
        if (!metric && heads.children.length) head.className = "words";
        heads.append(head);
      }
      const top = make("thead", "", { role: "rowgroup" });
      const body = make("tbody", "", { role: "rowgroup" });
      table.rows.forEach((texts, row) => {
        const line = make("tr", "", { role: "row" });
        line.append(make("th", texts[0], { scope: "row", role: "rowheader" }));
        for (let at = 1; at < texts.length; at++) line.append(drawCell(table, row, at));
        body.append(line);
      });
      top.append(heads);
      element.append(make("caption", table.title), top, body);
      region.append(element);
      return region;
    };
    choice.addEventListener("change", () => {
      const model = models.find(one => one.name === choice.value);
      place.replaceChildren(...model.tables.map(drawTable));
      byId("tables-said").textContent = `Tables of ${model.name}`;
    });
  }
})();
