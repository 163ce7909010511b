/** Apps, and how to connect a site. */

import { api, broker } from "./calls.js";
import { confirmAct, showDialog, showForm, showSecret, toast } from "./dialogs.js";
import { acts, button, empty, field, h, section, since, table } from "./elements.js";
import { controls, FLAG, LIST, NUMBER, SECRET, TEXT } from "./fields.js";
import { reload } from "./frame.js";
import { t } from "./texts.js";

/** The fields of an app: group → [name, kind or choices]. */
const APP_FIELDS = {
  basics: [["name", TEXT], ["origins", LIST], ["redirect_urls", LIST], ["home_url", TEXT], ["register_url", TEXT], ["logo_url", TEXT],
    ["provider", TEXT], ["provider_app_id", TEXT], ["provider_secret", SECRET], ["code_source", ["live", "pool"]], ["login_lifetime", NUMBER], ["phone_app", TEXT], ["open_url", TEXT]],
  oidc: [["client_type", ["confidential", "public"]], ["scopes", LIST], ["pkce", ["optional", "required"]], ["refresh", ["offline_access", "always", "never"]],
    ["reuse", ["family", "signin"]], ["id_token_alg", ["RS256", "ES256"]], ["id_token_claims", ["full", "lean"]],
    ["post_logout_urls", LIST], ["backchannel_logout_url", TEXT], ["sso", FLAG], ["loopback", FLAG]],
  security: [["match", ["off", "number", "code"]], ["show_scanner", ["off", "name", "picture"]], ["networks", LIST]],
  tunnel_chat: [["tunnel_url", TEXT], ["events_url", TEXT], ["wafer_host", TEXT], ["wafer_key", SECRET], ["rooms", TEXT], ["moderators", LIST]],
  files: [["files_types", LIST], ["files_max", NUMBER], ["files_lifetime", NUMBER], ["files_url", TEXT]],
};

export async function showApps({ body, tools }) {
  const { apps } = await api("GET", "apps");
  tools.append(button(t("add_app"), addApp, { class: "primary" }));
  body.replaceChildren(section(null, apps.length
    ? table(t("apps"), ["name", "id", "provider", "client_type", "changed", "actions"], apps.map((app) => [
      app.name, h("code", {}, app.id), app.provider, app.client_type, since(app.changed_at),
      acts(button(t("connect"), () => showSnippets(app), { class: "row-act" }), button(t("edit"), () => editApp(app), { class: "row-act", "aria-label": `${t("edit")} ${app.id}` })),
    ]))
    : empty(t("no_apps"), t("no_apps_about"), button(t("add_app"), addApp))));
}

function addApp() {
  const id = h("input", { required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", spellcheck: "false" });
  const name = h("input", { required: true, maxlength: "100" });
  const origins = h("textarea", { spellcheck: "false", placeholder: "https://shop.example" });
  const redirects = h("textarea", { spellcheck: "false", placeholder: "https://shop.example/callback" });
  const lines = (control) => control.value.split(/\s+/).filter(Boolean);
  showForm(t("add_app"), [["id", "name", "origins", "redirect_urls"].map((key, at) => field(h("code", {}, key), [id, name, origins, redirects][at], at > 1 ? t("list_hint") : ""))], async () => {
    await api("POST", "apps", { id: id.value.trim(), name: name.value.trim(), origins: lines(origins), redirect_urls: lines(redirects) });
    toast(t("saved"));
    reload();
  }, { label: t("add") });
}

function editApp(app) {
  const { sets, changes } = controls(APP_FIELDS, app);
  const secret = async (path, ask, about, label, answer) => {
    let created;
    if (await confirmAct(t(ask, { id: app.id }), t(about), t(label), async () => { created = await api("POST", `apps/${app.id}/${path}`); })) showSecret(t(label), t(answer), created[answer]);
  };
  showForm(`${app.name} (${app.id})`, sets, async () => {
    const changed = changes();
    if (Object.keys(changed).length) await api("PATCH", `apps/${app.id}`, changed);
    toast(t("saved"));
    reload();
  }, {
    large: true,
    after: h("fieldset", {}, h("legend", {}, t("actions")), acts(
      button(t("rotate_secret"), () => secret("rotate-secret", "rotate_secret_ask", "rotate_secret_about", "rotate_secret", "api_secret")),
      button(t("rotate_webhook"), () => secret("rotate-webhook-secret", "rotate_webhook_ask", "rotate_webhook_about", "rotate_webhook", "webhook_secret")),
      button(t("remove"), async () => {
        if (await confirmAct(t("delete_app", { id: app.id }), t("delete_app_about"), t("remove"), () => api("DELETE", `apps/${app.id}`))) {
          document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
          toast(t("app_removed"));
          reload();
        }
      }, { class: "destroy" }))),
  });
}

function showSnippets(app) {
  const page = `<script src="${broker}/scan-login.js" defer></script>
<scan-login broker="${broker}" app="${app.id}">Sign-in is unavailable.</scan-login>
<script type="module">
  document.querySelector("scan-login").onlogin = async ({ access_token }) => {
    const answer = await fetch("/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ access_token }),
    });
    if (!answer.ok) throw new Error("POST /session answered with status " + answer.status);
    location.assign("/account");
  };
</script>`;
  const oidc = `issuer         ${broker}\nclient_id      ${app.id}\nclient_secret  ${app.client_type === "public" ? "–" : "…"}\nredirect_uri   ${app.redirect_urls[0] ?? "https://…/callback"}\nscopes         ${app.scopes.join(" ")}`;
  showDialog(`${t("connect")}: ${app.id}`, (own) => [h("h3", {}, t("snippet_page")), h("pre", { tabindex: "0" }, page), h("h3", {}, t("snippet_oidc")), h("pre", { tabindex: "0" }, oidc),
    acts(button(t("close"), () => own.close(), { class: "primary" }))], { large: true });
}
