/** The sign-in with the token, or by scan. */

import { adminURL, broker, client, query, signIn } from "./calls.js";
import { report, toasts } from "./dialogs.js";
import { button, field, h } from "./elements.js";
import { languageButton, referenceLink } from "./frame.js";
import { language, t } from "./texts.js";

const STORED = "scan-login-admin";

const encoded = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

/** Open the sign-in page of the broker, which returns to `adminURL` only. */
async function beginScan() {
  if (location.origin !== new URL(adminURL).origin) throw new Error(t("scan_elsewhere", { url: adminURL }));
  if (!isSecureContext) throw new Error(t("scan_insecure"));
  const verifier = encoded(crypto.getRandomValues(new Uint8Array(32)));
  const state = encoded(crypto.getRandomValues(new Uint8Array(16)));
  const challenge = encoded(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
  sessionStorage.setItem(STORED, JSON.stringify({ verifier, state }));
  location.assign(`${broker}/oauth/authorize?${query({
    client_id: client, redirect_uri: `${location.origin}/`, response_type: "code", scope: "openid",
    state, code_challenge: challenge, code_challenge_method: "S256", ui_locales: language === "zh" ? "zh-CN" : "en",
  })}`);
}

/** Finish a sign-in by scan. Returns whether the address had an answer of the broker. */
export async function finishScan() {
  const answer = new URLSearchParams(location.search);
  if (!answer.has("state")) return false;
  const kept = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
  sessionStorage.removeItem(STORED);
  history.replaceState(null, "", location.pathname);
  if (!answer.get("code") || answer.get("state") !== kept.state) throw new Error(t("scan_failed"));
  const response = await fetch(`${broker}/oauth/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", code: answer.get("code"), redirect_uri: `${location.origin}/`,
      client_id: client, code_verifier: kept.verifier,
    }),
  });
  if (!response.ok) throw new Error(t("scan_failed"));
  await signIn((await response.json()).access_token, t("not_operator"));
  return true;
}

/** Show the form of the sign-in. enter: is called after it. */
export function showSignIn(enter, message = "") {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = `${t("title")} · scan-login`;
  const problem = h("div", { role: "alert" }, message ? h("div", { class: "notice bad" }, message) : null);
  const input = h("input", { type: "password", autocomplete: "off", required: true, autofocus: true, spellcheck: "false" });
  const submit = h("button", { class: "primary" }, t("sign_in"));
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await signIn(input.value.trim(), t("wrong_token"));
      enter();
    } catch (error) {
      problem.replaceChildren(h("div", { class: "notice bad" }, error.message));
      input.select();
    }
    submit.disabled = false;
  } }, field(t("token"), input), submit);
  const scan = client ? [h("div", { class: "or" }, t("or")), button(t("sign_in_by_scan"), () => report(beginScan, problem))] : [];
  document.body.replaceChildren(h("div", { class: "sign-in" }, h("main", {},
    h("div", { class: "brand" }, "scan-login"), h("h1", {}, t("title")), h("p", {}, t("sign_in_with_token")),
    problem, form, scan,
    h("footer", {}, referenceLink(), languageButton(() => showSignIn(enter))))), toasts);
  input.focus();
}
