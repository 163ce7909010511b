/** Sign-in sessions of a subject, and sessions of a phone. */

import { api, query } from "./calls.js";
import { confirmAct } from "./dialogs.js";
import { acts, button, chip, duration, empty, field, h, section, since, table } from "./elements.js";
import { attempt } from "./frame.js";
import { t } from "./texts.js";

export async function showSessions({ body }) {
  body.replaceChildren(signInSection(), phoneSection());
}

function finder(title, about, inputs, find) {
  const result = h("div", {}, empty(title, about));
  const run = () => attempt(result, async () => result.replaceChildren(await find(run)));
  const form = h("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); run(); } }, inputs, h("button", { class: "primary" }, t("find")));
  return [form, result];
}

function signInSection() {
  const subject = h("input", { required: true, maxlength: "256", spellcheck: "false" });
  return section(h("h2", {}, t("signins")), finder(t("find_subject"), t("find_subject_about"), field(t("subject"), subject), async (again) => {
    const id = subject.value.trim();
    const { signins } = await api("GET", `signins?${query({ subject: id })}`);
    if (!signins.length) return empty(t("no_signins"), t("no_signins_about"));
    const end = (one) => api("DELETE", `signins/${one.sid}?${query({ subject: id })}`);
    return h("div", {}, table(t("signins"), ["apps_used", "browser", "ip", "began", "used", "actions"], signins.map((one) => [
      one.apps.join(", "), one.offline ? chip(t("offline")) : h("span", { class: "muted" }, one.user_agent), one.ip || "–", since(one.began_at), since(one.used_at),
      acts(button(t("end"), async () => { if (await confirmAct(t("end_signin"), t("end_signin_about"), t("end"), () => end(one))) again(); }, { class: "row-act" })),
    ])), acts(button(t("end_all"), async () => {
      if (await confirmAct(t("end_signins", { id }), t("end_signin_about"), t("end_all"), () => Promise.all(signins.map(end)))) again();
    }, { class: "destroy" })));
  }));
}

function phoneSection() {
  const app = h("input", { required: true, value: "default", maxlength: "64" }), openid = h("input", { required: true, maxlength: "128", spellcheck: "false" });
  return section(h("h2", {}, t("phones")), finder(t("find_phone"), t("find_phone_about"), [field(t("app"), app), field(t("openid"), openid)], async (again) => {
    const id = openid.value.trim();
    const { sessions } = await api("GET", `sessions?${query({ app: app.value.trim(), openid: id })}`);
    if (!sessions.length) return empty(t("no_sessions"), t("no_sessions_about"));
    const end = (one) => api("DELETE", `sessions/${one.id}`);
    return h("div", {}, table(t("phones"), ["app", "openid", "subject", "expires_in", "actions"], sessions.map((one) => [
      one.app, h("code", {}, one.openid), one.subject ? h("code", {}, one.subject) : "–", duration(one.expires_in),
      acts(button(t("end"), async () => { if (await confirmAct(t("end_session"), t("end_session_about"), t("end"), () => end(one))) again(); }, { class: "row-act" })),
    ])), acts(button(t("end_all"), async () => {
      if (await confirmAct(t("end_sessions", { id }), t("end_session_about"), t("end_all"), () => Promise.all(sessions.map(end)))) again();
    }, { class: "destroy" })));
  }));
}
