// Draws the status page from status.json, every two seconds. Rates are differences of totals between two
// answers, so the server keeps none. Text from the server is only ever set as text, never as markup.
"use strict";

const PERIOD_MS = 2000;
const MACHINES_SHOWN_MAX = 200;
const byId = (id) => document.getElementById(id);
let before = null;

function element(name, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return made;
}

function number(value) {
  return Math.round(value).toLocaleString("en");
}

function rate(now, earlier, seconds) {
  if (!(seconds > 0) || now < earlier) return "–";
  const value = (now - earlier) / seconds;
  return value >= 100 || value === 0 ? number(value) : value.toPrecision(2);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return (unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)) + " " + units[unit];
}

function duration(seconds) {
  if (seconds < 120) return Math.round(seconds) + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

function latency(seconds) {
  return seconds < 0.001 ? Math.round(seconds * 1e6) + " µs" : (seconds * 1e3).toPrecision(3) + " ms";
}

function fill(id, emptyId, rows) {
  byId(id).hidden = rows.length === 0;
  byId(emptyId).hidden = rows.length !== 0;
  byId(id).tBodies[0].replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element("td", cell)));
    return row;
  }));
}

function showState(status) {
  const reasons = status.unready || [];
  const ready = reasons.length === 0;
  byId("state").textContent = ready ? "ready" : reasons[0].reason;
  byId("state").className = "state " + (ready ? "good" : "bad");
  byId("reasons").hidden = ready;
  byId("reasons").textContent = reasons.map((one) => one.detail || one.reason).join("\n");
  byId("version").textContent = status.server_version || "";
  byId("uptime").textContent = status.uptime_seconds === undefined ? "" : "up " + duration(status.uptime_seconds);
}

function showFigures(status) {
  const earlier = before || status;
  const seconds = status.uptime_seconds - earlier.uptime_seconds;
  const tiles = [];
  const tile = (name, value) => {
    const box = element("div");
    box.append(element("span", name), element("strong", value));
    tiles.push(box);
  };
  tile("instances", number(status.instances));
  tile("connections", number(status.connections_active || 0));
  tile("changes a second", rate(status.log.durable_offset, earlier.log.durable_offset, seconds));
  tile("syncs a second", rate(status.log.syncs, earlier.log.syncs, seconds));
  const commits = status.commits.count - earlier.commits.count;
  tile("mean commit", commits > 0 ? latency((status.commits.seconds - earlier.commits.seconds) / commits) : "–");
  tile("records a commit", commits > 0 ? ((status.commits.records - earlier.commits.records) / commits).toPrecision(2) : "–");
  tile("subscriptions", number(status.watches.subscriptions));
  tile("events a second", rate(status.watches.events_sent, earlier.watches.events_sent, seconds));
  tile("slowest watcher behind", number(status.watches.lag_max));
  tile("offset", number(status.log.durable_offset));
  tile("log", bytes(status.log.bytes) + " in " + number(status.log.segments) + (status.log.segments === 1 ? " segment" : " segments"));
  tile("newest snapshot", status.snapshot
    ? duration(Math.max(0, (status.time_ms - status.snapshot.created_at) / 1000)) + " ago" : "none");
  tile("idempotency keys", number(status.idempotency.keys));
  byId("tiles").replaceChildren(...tiles);

  fill("operations", "no-operations", Object.entries(status.requests).map(([name, one]) => {
    const last = earlier.requests[name] || { count: 0, seconds: 0 };
    const count = one.count - last.count;
    const mean = count > 0 ? (one.seconds - last.seconds) / count : one.seconds / one.count;
    return [name, rate(one.count, last.count, seconds), latency(mean), number(one.count)];
  }));
  fill("errors", "no-errors", Object.entries(status.errors).sort().map(([code, count]) =>
    [code, rate(count, earlier.errors[code] || 0, seconds), number(count)]));
}

function showMachines(status) {
  const counts = new Map();
  for (const one of status.instances_by_state || []) {
    if (!counts.has(one.machine)) counts.set(one.machine, []);
    counts.get(one.machine).push(one);
  }
  const all = status.machines_list || [];
  byId("no-machines").hidden = all.length !== 0;
  const place = byId("machines");
  const known = new Map([...place.children].map((child) => [child.dataset.machine, child]));
  for (const { machine, versions } of all.slice(0, MACHINES_SHOWN_MAX)) {
    let box = known.get(machine);
    if (!box) {
      box = element("details");
      box.dataset.machine = machine;
      const title = element("summary", machine + " ");
      title.append(element("small"));
      box.append(title, element("div", undefined, { class: "versions" }),
        element("div", undefined, { class: "diagram" }), element("div", undefined, { class: "counts" }));
      box.addEventListener("toggle", () => { if (box.open) drawVersion(box, Number(box.dataset.latest)); });
      place.append(box);
      // A link such as /#order opens that machine; a single one is opened anyway.
      box.open = all.length === 1 || decodeURIComponent(location.hash.slice(1)) === machine;
    }
    known.delete(machine);
    updateMachine(box, versions, counts.get(machine) || []);
  }
  for (const gone of known.values()) gone.remove();
  if (all.length > MACHINES_SHOWN_MAX) {
    byId("no-machines").hidden = false;
    byId("no-machines").textContent = `The first ${MACHINES_SHOWN_MAX} of ${number(all.length)} machines.`;
  }
}

function updateMachine(box, versions, states) {
  const total = states.reduce((sum, one) => sum + one.instances, 0);
  const latest = versions[versions.length - 1];
  box.querySelector("small").textContent =
    `${versions.length === 1 ? "version " + latest : versions.length + " versions"}, ${number(total)} instances`;
  if (box.dataset.latest !== String(latest)) {
    box.dataset.latest = latest;
    box.querySelector(".versions").replaceChildren(...versions.map((version) => {
      const button = element("button", "v" + version, { type: "button" });
      button.dataset.version = version;
      button.addEventListener("click", () => drawVersion(box, version));
      return button;
    }));
    if (box.open) drawVersion(box, latest);
  }
  const cells = [];
  for (const one of states) {
    cells.push(element("span", one.state), element("meter", undefined, { min: 0, max: Math.max(total, 1), value: one.instances }),
      element("span", number(one.instances)));
  }
  box.querySelector(".counts").replaceChildren(...cells);
}

function drawVersion(box, version) {
  for (const button of box.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.version === String(version)));
  }
  if (box.dataset.shown === String(version)) return;
  box.dataset.shown = version;
  const source = "machine.svg?" + new URLSearchParams({ machine: box.dataset.machine, version });
  box.querySelector(".diagram").replaceChildren(
    element("img", undefined, { src: source, alt: `${box.dataset.machine} version ${version}` }));
}

async function refresh() {
  try {
    const answer = await fetch("status.json", { signal: AbortSignal.timeout(5 * PERIOD_MS) });
    if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed" : "status " + answer.status);
    const status = await answer.json();
    showState(status);
    if (status.log) {
      // After a restart the totals start again, and so do the rates.
      if (before && status.uptime_seconds < before.uptime_seconds) before = null;
      showFigures(status);
      showMachines(status);
      before = status;
    }
  } catch (error) {
    byId("state").textContent = "no answer";
    byId("state").className = "state bad";
    byId("reasons").hidden = false;
    byId("reasons").textContent = String(error.message || error);
  }
  setTimeout(refresh, PERIOD_MS);
}

refresh();
