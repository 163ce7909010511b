/** The audit log. */

import { api, query, request } from "./calls.js";
import { report } from "./dialogs.js";
import { acts, button, empty, field, h, section, select, since, stateChip, table } from "./elements.js";
import { attempt } from "./frame.js";
import { t, word } from "./texts.js";

const KINDS = ["", "login", "signin", "refresh", "logout", "admin"];
const END_STATES = ["", "redeemed", "denied", "expired", "cancelled"];

export async function showAudit({ body, tools }) {
  const app = h("input", { maxlength: "64" }), subject = h("input", { maxlength: "256" }), from = h("input", { type: "datetime-local" });
  const [kindField, kind] = select(KINDS, { label: t("kind") }), [stateField, state] = select(END_STATES, { label: t("state") });
  const result = h("div");
  const load = async (after, entries = []) => {
    const time = from.value ? Math.floor(new Date(from.value).getTime() / 1000) : "";
    const page = await api("GET", `trail?${query({ app: app.value.trim(), subject: subject.value.trim(), kind: kind.value, state: state.value, since: time, after, limit: 100 })}`);
    entries = [...entries, ...page.entries];
    result.replaceChildren(section(null, entries.length
      ? table(t("audit"), ["time", "kind", "app", "state", "subject", "actor", "target_id", "ip", "reason"], entries.map((one) => [
        since(one.at), one.kind ? word(one.kind) : "–", one.app || "–", one.state ? stateChip(one.state) : "–", one.subject ? h("code", {}, one.subject) : "–", one.actor || "–", one.target ? h("code", {}, one.target) : "–", one.ip || "–", one.reason || "–"]))
      : empty(t("no_entries"), t("no_entries_about")),
    page.next ? acts(button(t("more"), () => attempt(result, () => load(page.next, entries)))) : null));
  };
  const run = () => attempt(result, async () => {
    try {
      await load();
    } catch (error) {
      if (error.status !== 404) throw error;
      result.replaceChildren(section(null, empty(t("no_audit"), t("no_audit_about"))));
    }
  });
  tools.append(button(t("export"), () => report(exportAudit)));
  body.replaceChildren(h("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); run(); } },
    field(t("app"), app), field(t("subject"), subject), kindField, stateField, field(t("since"), from), h("button", { class: "primary" }, t("search"))), result);
  await run();
}

async function exportAudit() {
  const blob = await (await request("GET", "trail.ndjson?after=0")).blob();
  const link = h("a", { href: URL.createObjectURL(blob), download: `scan-login-audit-${new Date().toISOString().slice(0, 10)}.ndjson` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
