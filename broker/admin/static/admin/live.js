/** Logins whose browsers wait now. */

import { api, query } from "./calls.js";
import { confirmAct, report } from "./dialogs.js";
import { acts, button, duration, empty, field, h, section, select, stateChip, table } from "./elements.js";
import { follow, isWatching } from "./events.js";
import { t } from "./texts.js";

const STATES = ["pending", "scanned", "confirmed"];

export async function showLive({ body, tools, isShown }) {
  const status = h("span", { class: "live", role: "status" });
  tools.append(status);
  const app = h("input", { maxlength: "64", oninput: () => report(refresh) });
  const [stateField, state] = select(["", ...STATES], { label: t("state"), onchange: () => report(refresh) });
  const counts = h("div", { class: "counts" }), list = section(null);
  const missing = h("div");
  body.replaceChildren(counts, missing, h("div", { class: "tools" }, field(t("app"), app), stateField), list);
  let limit = 200;

  async function refresh() {
    const answer = await api("GET", `logins?${query({ app: app.value.trim(), state: state.value, limit })}`);
    if (!isShown()) return;
    status.textContent = isWatching ? t("watching") : t("not_watching");
    status.classList.toggle("on", isWatching);
    showCounts(counts, answer);
    missing.replaceChildren(...(answer.missing.length
      ? [h("div", { class: "notice warn", role: "alert" }, t("missing", { names: answer.missing.join(", ") }))] : []));
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    list.replaceChildren(loginTable(answer.logins, refresh), ...(answer.next && limit < 999 ? [acts(button(t("more"), () => { limit = 999; report(refresh); }))] : []));
    if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  await refresh();
  follow(["login", "instance"], isShown, refresh);
}

function showCounts(place, answer) {
  const count = (name, number) => h("div", { class: "count" }, h("strong", {}, String(number)), h("span", {}, name));
  const apps = [...new Set(answer.logins.map((one) => one.app))].sort();
  place.replaceChildren(count(t("waiting"), answer.total),
    ...STATES.map((state) => count(t(state), answer.logins.filter((one) => one.state === state).length)),
    ...(apps.length > 1 ? apps.slice(0, 6).map((app) => count(app, answer.logins.filter((one) => one.app === app).length)) : []));
}

function loginTable(logins, refresh) {
  if (!logins.length) return empty(t("no_logins"), t("no_logins_about"));
  return table(t("live"), ["app", "state", "age", "ip", "browser", "instance", "actions"], logins.map((one) => [
    one.app, stateChip(one.state), duration(Date.now() / 1000 - one.since), one.ip || "–",
    h("span", { class: "muted" }, one.user_agent || "–"), h("code", {}, one.instance),
    acts(button(t("end"), async () => {
      if (await confirmAct(t("end_login"), t("end_login_about"), t("end"), () => api("DELETE", `logins/${one.login_id}`))) report(refresh);
    }, { class: "row-act", "data-key": one.login_id, "aria-label": `${t("end")}: ${one.app}, ${one.ip}` })),
  ]));
}
