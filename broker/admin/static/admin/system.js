/** Instances and settings. */

import { api } from "./calls.js";
import { chip, empty, field, h, section, since, table } from "./elements.js";
import { follow } from "./events.js";
import { t } from "./texts.js";

export async function showSystem({ body, isShown }) {
  const [running, config] = await Promise.all([api("GET", "instances"), api("GET", "config")]);
  const list = section(h("h2", {}, t("instances")));
  const draw = (answer) => list.replaceChildren(h("header", {}, h("h2", {}, t("instances"))),
    table(t("instances"), ["instance", "state", "version", "roles", "waiting", "tunnels", "chat", "started", "seen"], answer.instances.map((one) => [
      h("span", {}, h("code", {}, one.instance), one.instance === answer.answered_by ? h("span", {}, " ", chip(t("answering"))) : null),
      one.ready ? chip(t("ready"), "good") : h("span", {}, chip(t("not_ready"), "bad"), " ", one.reason ?? ""),
      one.version, one.roles.join(", "), one.waiting, one.tunnels, one.chat, since(one.started_at), since(one.seen_at)])));
  draw(running);
  body.replaceChildren(list, settingsSection(config.settings));
  follow(["instance"], isShown, async () => draw(await api("GET", "instances")));
}

function settingsSection(settings) {
  const filter = h("input", { type: "search", oninput: () => draw() }), only = h("input", { type: "checkbox", onchange: () => draw() });
  const rows = h("div");
  const text = (value) => (Array.isArray(value) && value.length ? value.map(String).join(", ") : value === null || value.length === 0 || value === "" ? "–" : String(value));
  const draw = () => {
    const wanted = settings.filter((one) => one.name.includes(filter.value.trim().toLowerCase()) && (!only.checked || one.source !== "default"));
    rows.replaceChildren(wanted.length ? table(t("settings"), ["setting", "value", "source"], wanted.map((one) => [
      h("code", {}, `SCAN_LOGIN_${one.name.toUpperCase()}`), h("code", {}, text(one.value)), h("span", { title: one.source_name ?? "" }, chip(t(one.source), one.source === "default" ? "" : "good"))]))
      : empty(t("none"), ""));
  };
  draw();
  return section(h("h2", {}, t("settings")), h("div", { class: "tools" }, field(t("filter"), filter), h("label", { class: "check" }, only, t("only_set"))), rows);
}
