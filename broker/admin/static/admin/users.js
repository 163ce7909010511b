/** Users, their phones and invitations. */

import { api, query } from "./calls.js";
import { confirmAct, copyField, report, showForm, showSecret, toast } from "./dialogs.js";
import { acts, button, chip, empty, field, h, section, since, table } from "./elements.js";
import { controls, LIST, TEXT } from "./fields.js";
import { reload } from "./frame.js";
import { t } from "./texts.js";

const USER_FIELDS = { claims: [["name", TEXT], ["nickname", TEXT], ["preferred_username", TEXT], ["email", TEXT], ["phone_number", TEXT], ["picture", TEXT], ["locale", TEXT], ["zoneinfo", TEXT], ["groups", LIST]] };

export async function showUsers({ body, tools }) {
  let page;
  try {
    page = await api("GET", "users?limit=100");
  } catch (error) {
    if (error.status !== 404) throw error;
    body.replaceChildren(section(null, empty(t("not_recorded"), t("not_recorded_about"))));
    return;
  }
  tools.append(button(t("add_user"), addUser, { class: "primary" }));
  const users = page.users, list = section(null);
  const draw = () => list.replaceChildren(users.length
    ? table(t("users"), ["id", "name", "identities", "state", "changed", "actions"], users.map((user) => [
      h("code", {}, user.id), user.name ?? "–", user.identities.length, user.blocked ? chip(t("blocked"), "bad") : chip(t("active"), "good"), since(user.changed_at),
      acts(button(t("invite"), () => report(() => invite(user)), { class: "row-act", "aria-label": `${t("invite")} ${user.id}` }), button(t("edit"), () => editUser(user), { class: "row-act", "aria-label": `${t("edit")} ${user.id}` })),
    ]))
    : empty(t("no_users"), t("no_users_about"), button(t("add_user"), addUser)),
  page.next ? acts(button(t("more"), () => report(async () => {
    page = await api("GET", `users?${query({ limit: 100, after: page.next })}`);
    users.push(...page.users);
    draw();
  }))) : "");
  draw();
  body.replaceChildren(list);
}

function addUser() {
  const id = h("input", { maxlength: "64", spellcheck: "false" }), name = h("input", { maxlength: "100" });
  showForm(t("add_user"), [field(t("id"), id, t("optional")), field(t("name"), name)], async () => {
    await api("POST", "users", { ...(id.value.trim() ? { id: id.value.trim() } : {}), ...(name.value.trim() ? { name: name.value.trim() } : {}) });
    toast(t("saved"));
    reload();
  }, { label: t("add") });
}

async function invite(user) {
  const made = await api("POST", `users/${encodeURIComponent(user.id)}/invite`, {});
  showSecret(t("user_of", { id: user.id }), t("invitation"), made.invitation, [
    h("p", {}, t("invite_about", { hours: Math.round(made.expires_in / 3600) })),
    made.code_url ? h("img", { class: "qr", src: made.code_url, alt: t("invitation") }) : null,
    made.link ? [h("label", {}, t("link_address")), copyField(t("link_address"), made.link)] : null,
  ]);
}

function editUser(user) {
  const path = `users/${encodeURIComponent(user.id)}`;
  const { sets, changes } = controls(USER_FIELDS, user);
  const problem = h("div", { role: "alert" });
  const block = (blocked) => api("PATCH", path, { blocked });
  const closeAll = () => { document.querySelectorAll("dialog").forEach((dialog) => dialog.close()); reload(); };
  const phones = user.identities.length
    ? table(t("identities"), ["provider", "provider_app_id", "openid", "actions"], user.identities.map((one) => [one.provider, one.provider_app_id || "–", h("code", {}, one.openid),
      acts(button(t("unlink"), async () => {
        const { provider, provider_app_id, openid } = one;
        if (await confirmAct(t("unlink_ask"), t("unlink_about"), t("unlink"), () => api("POST", `${path}/unlink`, { provider, provider_app_id, openid }))) closeAll();
      }, { class: "row-act" }))]))
    : h("p", {}, t("no_identities"));
  showForm(t("user_of", { id: user.id }), sets, async () => {
    const changed = changes();
    if (changed.groups?.length === 0) changed.groups = null;
    if (Object.keys(changed).length) await api("PATCH", path, changed);
    toast(t("saved"));
    reload();
  }, {
    large: true,
    after: h("fieldset", {}, h("legend", {}, t("identities")), phones, problem, acts(
      button(t("link"), () => linkPhone(path, closeAll)),
      user.blocked
        ? button(t("unblock"), () => report(async () => { await block(false); closeAll(); }, problem))
        : button(t("block"), async () => {
          if (await confirmAct(t("block_ask", { id: user.id }), t("block_about"), t("block"), () => block(true))) closeAll();
        }),
      button(t("remove"), async () => {
        if (await confirmAct(t("delete_user", { id: user.id }), t("delete_user_about"), t("remove"), () => api("DELETE", path))) closeAll();
      }, { class: "destroy" }))),
  });
}

function linkPhone(path, done) {
  const provider = h("input", { required: true, value: "wechat" }), app = h("input"), openid = h("input", { required: true });
  showForm(t("link"), [field(t("provider"), provider), field(t("provider_app_id"), app), field(t("openid"), openid)], async () => {
    await api("POST", `${path}/link`, { provider: provider.value.trim(), provider_app_id: app.value.trim(), openid: openid.value.trim() });
    setTimeout(done);
  }, { label: t("link") });
}
