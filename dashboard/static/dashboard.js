// What a page does with a script that it does not do without one: it stays new by itself.
//
// The server draws everything. Regions of the page (data-live) come anew over one EventSource, and are merged into
// what is there, so that focus, selection, what is folded open and what was typed stay. Besides: times stay relative
// to now, ids are copied, charts tell the values under the pointer.
"use strict";

(() => {
  const root = document.documentElement;
  const body = document.body;
  const status = document.getElementById("live");
  const away = document.getElementById("away");

  // The server's clock, which all times are of: its difference to this one, in ms.
  let ahead = Number(body.dataset.now || Date.now()) - Date.now();

  const say = (state, words) => {
    if (status.dataset.state === state && status.textContent === words) return;
    status.dataset.state = state;
    status.textContent = words;
  };

  // Times ---------------------------------------------------------------------------------------------

  const UNITS = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];

  const age = (seconds) => {
    if (seconds <= 0) return "0s";
    if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
    let left = Math.round(seconds);
    const parts = [];
    for (const [size, unit] of UNITS) {
      const number = Math.floor(left / size);
      left -= number * size;
      if (number || parts.length) parts.push([number, unit]);
    }
    return parts.slice(0, 2).filter(([number]) => number).map((part) => part.join("")).join(" ");
  };

  const tell = () => {
    const now = Date.now() + ahead;
    for (const time of document.querySelectorAll("time[data-ms]")) {
      const seconds = (now - Number(time.dataset.ms)) / 1000;
      // Tenths of a second would flicker: only what is drawn by the server shows them.
      const words = Math.abs(seconds) < 9.95 ? `${Math.floor(Math.abs(seconds))}s` : age(Math.abs(seconds));
      const text = seconds >= 0 ? `${words} ago` : `in ${words}`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // Merging -------------------------------------------------------------------------------------------

  const keyOf = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || "" : "");
  const alike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

  // What the reader did to an element is the reader's: the server does not know of it.
  const theirs = (element, name) =>
    (element.nodeName === "DETAILS" && name === "open") || (element.nodeName === "BUTTON" && name === "data-copied");

  const mergeAttributes = (old, fresh) => {
    for (const { name, value } of [...fresh.attributes]) {
      if (!theirs(old, name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !theirs(old, name)) old.removeAttribute(name);
    }
  };

  const merge = (old, fresh) => {
    if (old.nodeType !== 1) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    mergeAttributes(old, fresh);
    if (["INPUT", "TEXTAREA", "SELECT"].includes(old.nodeName)) return;
    mergeChildren(old, fresh);
  };

  const mergeChildren = (old, fresh) => {
    const keyed = new Map();
    for (const child of old.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      // A page has line ends around its regions that a region by itself has not: nothing is to be replaced for them.
      while (at && wanted.nodeType === 1 && at.nodeType === 3 && !at.data.trim()) {
        const next = at.nextSibling;
        at.remove();
        at = next;
      }
      let found = keyOf(wanted) ? keyed.get(keyOf(wanted)) : at;
      if (found && !alike(found, wanted)) found = null;
      if (!found) {
        old.insertBefore(wanted, at);
        continue;
      }
      if (found === at) at = at.nextSibling;
      else old.insertBefore(found, at);
      merge(found, wanted);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  const show = (name, html) => {
    const region = document.querySelector(`[data-live="${CSS.escape(name)}"]`);
    if (!region) return;
    const held = document.createElement("template");
    held.innerHTML = html;
    mergeChildren(region, held.content);
    for (const chart of region.querySelectorAll(".chart")) point(chart);
  };

  // Live ----------------------------------------------------------------------------------------------

  let source = null;
  let again = 0;

  const stop = () => {
    clearTimeout(again);
    if (source) source.close();
    source = null;
  };

  const start = () => {
    stop();
    if (!body.dataset.stream || document.hidden) return;
    source = new EventSource(body.dataset.stream);
    source.addEventListener("regions", (event) => {
      const told = JSON.parse(event.data);
      ahead = told.now - Date.now();
      if (told.away) {
        say("away", "Redis is away");
      } else if (body.dataset.away) {
        location.reload(); // it was drawn while the server was away: there is nothing to merge into
        return;
      } else {
        say("live", "Live");
      }
      body.classList.toggle("is-away", Boolean(told.away));
      away.hidden = !told.away;
      if (told.away) away.querySelector("span").textContent = told.away;
      for (const [name, html] of Object.entries(told.html)) show(name, html);
      tell();
    });
    source.onerror = () => {
      const gone = source && source.readyState === EventSource.CLOSED;
      say("waiting", gone ? "Not live: trying again" : "Reconnecting");
      // Refused (too many look on, or the dashboard is restarting): the browser gives up then, this does not.
      if (gone) again = setTimeout(start, 5000);
    };
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && start());

  // Charts --------------------------------------------------------------------------------------------

  // Where the pointer is over a chart, as a part of its width; charts that are drawn anew meanwhile keep it.
  const pointers = new Map();

  const point = (chart) => {
    const part = pointers.get(chart.id);
    const cursor = chart.querySelector(".cursor");
    if (!cursor) return;
    const at = chart.querySelector(".at");
    const x = part === undefined ? 0 : part * cursor.ownerSVGElement.viewBox.baseVal.width;
    let nearest = null;
    for (const shown of chart.querySelectorAll("b[data-points]")) {
      const points = JSON.parse(shown.dataset.points);
      if (part === undefined || !points.length) {
        shown.textContent = shown.dataset.latest;
        continue;
      }
      const best = points.reduce((one, other) => (Math.abs(other[0] - x) < Math.abs(one[0] - x) ? other : one));
      shown.textContent = best[1];
      nearest = best[0];
    }
    cursor.toggleAttribute("hidden", nearest === null);
    cursor.setAttribute("visibility", nearest === null ? "hidden" : "visible");
    if (nearest !== null) {
      cursor.setAttribute("x1", nearest);
      cursor.setAttribute("x2", nearest);
    }
    const width = cursor.ownerSVGElement.viewBox.baseVal.width;
    at.textContent = nearest === null ? "" : `${age(Number(chart.dataset.span) * (1 - nearest / width))} ago`;
  };

  document.addEventListener("pointermove", (event) => {
    const plot = event.target.closest && event.target.closest(".plot svg");
    for (const id of [...pointers.keys()]) {
      const other = document.getElementById(id);
      if (!plot || !other || !other.contains(plot)) {
        pointers.delete(id);
        if (other) point(other);
      }
    }
    if (!plot) return;
    const chart = plot.closest(".chart");
    const box = plot.getBoundingClientRect();
    pointers.set(chart.id, Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    point(chart);
  });

  // Copying -------------------------------------------------------------------------------------------

  const copied = async (button) => {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      return; // the browser does not let us: the text stands beside the button
    }
    const before = button.getAttribute("aria-label");
    button.setAttribute("aria-label", "Copied");
    button.dataset.copied = "";
    setTimeout(() => {
      button.setAttribute("aria-label", before);
      delete button.dataset.copied;
    }, 1500);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) copied(button);
  });

  root.classList.add("scripted");
  tell();
  setInterval(tell, 1000);
  start();
})();
