// Live numbers, selection, keys. Without this file everything can still be read and done.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const base = document.body.dataset.base;
const number = new Intl.NumberFormat("en-US");

// -- times: the viewer's own, beside UTC

function localize(root) {
  for (const time of all("time[datetime]", root)) {
    const at = new Date(time.dateTime);
    if (!time.dateset && !isNaN(at)) {
      time.title += `\n${at.toLocaleString()} here`;
      time.dateset = true;
    }
  }
}

// -- selection

const boxes = () => all('input[name="row"]');
const allBox = document.querySelector("[data-select-all]");

function tellSelected() {
  const told = document.querySelector("[data-selected]");
  if (!told) return;
  const count = boxes().filter((box) => box.checked).length;
  told.textContent = count ? `With ${count} selected:` : "With selected:";
  for (const button of all("#jobs-form .toolbar button")) button.disabled = !count;
  allBox.checked = count > 0 && count === boxes().length;
  allBox.indeterminate = count > 0 && count < boxes().length;
}

if (allBox) {
  allBox.closest("label").hidden = false;
  allBox.addEventListener("change", () => {
    for (const box of boxes()) box.checked = allBox.checked;
    tellSelected();
  });
  document.addEventListener("change", (event) => {
    if (event.target.name === "row") tellSelected();
  });
}

// -- live

const state = document.getElementById("live-state");
const regions = () => all("[data-live]");
let loading = false;

function isBusyWith(region) {
  const active = document.activeElement;
  const marked = region.querySelector("input:checked, details[open], tr.at, :active");
  return marked || (active !== document.body && region.contains(active));
}

async function refresh() {
  const waiting = regions().filter((region) => !isBusyWith(region));
  if (loading || document.hidden || !waiting.length) return;
  loading = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of waiting) {
      const fresh = page.querySelector(`[data-live="${region.dataset.live}"]`);
      if (fresh && !isBusyWith(region)) {
        const here = document.adoptNode(fresh);
        region.replaceWith(here);
        localize(here);
      }
    }
    if (allBox) tellSelected();
  } catch {
    // The stream says so.
  } finally {
    loading = false;
  }
}

function listen() {
  const stream = new EventSource(`${base}live`);
  let told = false;
  stream.addEventListener("stats", (event) => {
    const stats = JSON.parse(event.data);
    for (const place of all("[data-stat]")) {
      const value = stats[place.dataset.stat];
      if (value !== undefined) place.textContent = number.format(value);
    }
    say("live");
    if (told) refresh();
    told = true; // the page that came just now needs no other
  });
  stream.addEventListener("away", (event) => say(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) say("not live: load the page again");
  });
  addEventListener("pagehide", () => stream.close());
}

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

// -- keys

let leader = 0;
let at = -1;

function move(step) {
  const rows = all("[data-row]");
  if (!rows.length) return;
  for (const row of rows) row.classList.remove("at");
  at = Math.max(0, Math.min(rows.length - 1, at + step));
  rows[at].classList.add("at");
  rows[at].scrollIntoView({ block: "nearest" });
}

const row = () => document.querySelector("tr.at");
const keys = {
  "/": () => (document.querySelector("[data-search]") ?? document.querySelector(".find input")).focus(),
  "?": () => document.getElementById("keys").showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: () => row()?.querySelector('input[name="row"]')?.click(),
  Enter: () => row()?.querySelector("[data-open]")?.click(),
  h: () => document.querySelector('.pager [rel="prev"]')?.click(),
  l: () => document.querySelector('.pager [rel="next"]')?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea, dialog");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (Date.now() - leader < 1500) {
    leader = 0;
    const link = document.querySelector(`header nav [data-key="${CSS.escape(event.key)}"]`);
    if (link) link.click();
    return;
  }
  if (event.key === "g") leader = Date.now();
  const pressed = event.target.closest("a, button, summary") && event.key === "Enter";
  if (keys[event.key] && !pressed) {
    event.preventDefault();
    keys[event.key]();
  }
});

document.getElementById("keys-hint").hidden = false;
localize(document);
tellSelected();
// Error pages have no numbers, and what was searched for is not searched for again and again.
if (document.querySelector("[data-stat]")) listen();
