"use strict";
// Texts come from data and models: they are only ever written as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const total = data.items.length;
  const store = `edgetune-votes:${data.page}`;
  const names = {first: "Answer 1", second: "Answer 2", tie: "Tie", bad: "Both bad"};
  const keys = {1: "first", 2: "second", 3: "tie", 4: "bad", t: "tie", b: "bad"};
  const pause = 250; // ms in which a second tap or key is taken for a slip
  const find = (id) => document.getElementById(id);
  let state = null; // {voter: {name, id, kind}, votes: [{item, vote, seconds, at}]}
  let shown = 0; // when the comparison was shown
  let current = -1;

  const read = (key) => {
    try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
  };
  const write = (key, value) => {
    try { localStorage.setItem(key, JSON.stringify(value)); } catch { find("unkept").hidden = false; }
  };
  const place = (name) => `${store}:${name.toLowerCase()}`;
  const save = () => write(place(state.voter.name), state);

  const start = (name) => {
    const kept = read(place(name));
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
    state = kept && Array.isArray(kept.votes) ? kept : {voter: {name, id, kind: "person"}, votes: []};
    write(store, {name});
    try { sessionStorage.setItem(store, name); } catch { /* the name is asked for again */ }
    save();
    find("start").hidden = true;
    find("bar").hidden = false;
    show();
  };

  const next = () => {
    const voted = new Set(state.votes.map((one) => one.item));
    for (let n = 0; n < total; n++) if (!voted.has(n)) return n;
    return -1;
  };

  const fill = (box, text) => {
    const empty = !text.trim();
    box.textContent = empty ? "(empty answer)" : text;
    box.classList.toggle("empty", empty);
  };
  const turns = (box, some) => {
    box.replaceChildren(...some.map(([role, text]) => {
      const turn = document.createElement("div");
      turn.className = "turn";
      const who = document.createElement("span");
      who.className = "role";
      who.textContent = {user: "Question", assistant: "Earlier answer", system: "Instruction"}[role] || role;
      const said = document.createElement("div");
      said.className = "text";
      said.dir = "auto";
      said.textContent = text;
      turn.append(who, said);
      return turn;
    }));
  };

  const show = () => {
    current = next();
    const over = current < 0;
    find("count").textContent = `${state.votes.length} of ${total}`;
    find("progress").value = state.votes.length;
    find("undo").disabled = !state.votes.length;
    find("vote").hidden = find("choices").hidden = over;
    find("done").hidden = !over;
    window.scrollTo(0, 0);
    if (over) {
      find("done-title").focus({preventScroll: true});
      return;
    }
    const item = data.items[current];
    find("vote-title").textContent = `Comparison ${state.votes.length + 1} of ${total}`;
    const before = item.turns.slice(0, -1);
    find("earlier").hidden = !before.length;
    find("earlier").open = false;
    find("earlier").firstElementChild.textContent = `Before it: ${before.length} turn${before.length > 1 ? "s" : ""}`;
    turns(find("earlier").lastElementChild, before);
    turns(find("question"), item.turns.slice(-1));
    fill(find("one"), item.answers[0]);
    fill(find("two"), item.answers[1]);
    find("expected").hidden = !item.expected;
    find("expected").open = false;
    find("expected").lastElementChild.textContent = item.expected || "";
    find("vote-title").focus({preventScroll: true});
    shown = performance.now();
  };

  const vote = (choice) => {
    if (!state || current < 0 || performance.now() - shown < pause || find("export-box").open) return;
    const seconds = Math.round((performance.now() - shown) / 100) / 10;
    state.votes.push({item: current, vote: choice, seconds, at: new Date().toISOString()});
    save();
    show();
    find("said").textContent = `${names[choice]}. ${state.votes.length} of ${total} votes saved.`;
  };
  const undo = () => {
    if (!state || !state.votes.length || find("export-box").open) return;
    const last = state.votes.pop();
    save();
    show();
    find("said").textContent = `Vote taken back: ${names[last.vote]}.`;
  };

  const text = () => JSON.stringify({format: "edgetune-votes", schema: 1, page: data.page, key: data.key, ...state});
  const fileName = () => `votes-${state.voter.name.replace(/[^\p{L}\p{N}]+/gu, "-")}-${data.page.slice(0, 6)}.json`;
  const exportVotes = () => {
    const content = text();
    const file = new File([content], fileName(), {type: "application/json"});
    const link = find("download");
    if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(file);
    link.download = file.name;
    find("export-text").value = content;
    find("export-count").textContent = `${state.votes.length} of ${total} votes of ${state.voter.name}. `
      + "Send the file to whoever gave you this page.";
    let can = false;
    try { can = !!navigator.canShare && navigator.canShare({files: [file]}); } catch { can = false; }
    find("share").hidden = !can;
    find("share").onclick = () => navigator.share({files: [file]}).catch(() => {});
    find("copy").textContent = "Copy text";
    find("export-box").showModal();
  };
  const copy = async () => {
    const box = find("export-text");
    box.select();
    let copied = false;
    try { await navigator.clipboard.writeText(box.value); copied = true; } catch { copied = document.execCommand("copy"); }
    find("copy").textContent = copied ? "Copied" : "Select and copy the text below";
  };

  const begin = () => {
    const name = find("name").value.trim().replace(/\s+/g, " ");
    if (name) start(name);
    else find("name").focus();
  };
  find("go").onclick = begin;
  find("name").onkeydown = (event) => { if (event.key === "Enter" && !event.isComposing) begin(); };
  find("undo").onclick = undo;
  find("export").onclick = find("export-done").onclick = exportVotes;
  find("copy").onclick = copy;
  find("close").onclick = () => find("export-box").close();
  for (const button of document.querySelectorAll("[data-vote]")) button.onclick = () => vote(button.dataset.vote);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.target.matches("input, textarea")) return;
    const key = event.key.toLowerCase();
    if (key in keys) vote(keys[key]);
    else if (key === "u" || key === "backspace") undo();
    else return;
    event.preventDefault();
  });
  // Another tab of the same voter.
  window.addEventListener("storage", (event) => {
    if (!state || event.key !== place(state.voter.name) || !event.newValue) return;
    state = read(event.key) || state;
    show();
  });
  write(`${store}:`, 1); // says at once where nothing is kept
  find("name").value = (read(store) || {}).name || "";
  let going = ""; // a reload of this tab goes on at once
  try { going = sessionStorage.getItem(store) || ""; } catch { going = ""; }
  if (going) start(going);
})();
