/** The page of an operator who is signed in: its menu, and one view at a time. */

import { isSignedIn } from "./calls.js";
import { toasts } from "./dialogs.js";
import { acts, button, h } from "./elements.js";
import { stopWatching, watch } from "./events.js";
import { language, setLanguage, t } from "./texts.js";

let frame = null, view = "live", main = null, shown = 0, views = {}, leave = () => {};

/** Show the page of an operator. allViews: by name. signOut: ends the sign-in. */
export function showFrame(allViews, signOut) {
  [views, leave] = [allViews, signOut];
  draw();
}

export function closeFrame() {
  frame = null;
  shown += 1;
  stopWatching();
  document.querySelectorAll("dialog").forEach((dialog) => dialog.remove());
}

/** A link to the page of the HTTP API, in a new tab: this page would forget its token. */
export const referenceLink = () => h("a", { href: "api", target: "_blank" }, t("api_reference"));

/** A button that changes the language and calls `redraw`. */
export const languageButton = (redraw) => button(t("language"), () => {
  setLanguage(language === "zh" ? "en" : "zh");
  redraw();
}, { class: "plain", lang: language === "zh" ? "en" : "zh-CN" });

function draw() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  main = h("main", { class: "content" });
  const tabs = Object.keys(views).map((name) => button(t(name), () => show(name), { "data-view": name }));
  frame = h("div", { class: "frame" }, h("div", { class: "side" },
    h("div", { class: "brand" }, "scan-login"), h("nav", { "aria-label": t("title") }, tabs),
    h("footer", {}, referenceLink(), languageButton(draw), button(t("sign_out"), () => leave(), { class: "plain" }))), main);
  document.body.replaceChildren(frame, toasts);
  watch();
  show(view);
}

async function show(name, { focus = true } = {}) {
  view = name;
  const number = ++shown;
  document.title = `${t(name)} · scan-login`;
  for (const tab of frame.querySelectorAll("nav button")) {
    if (tab.dataset.view === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const heading = h("h1", { tabindex: "-1" }, t(name));
  const tools = acts();
  main.replaceChildren(h("div", { class: "head" }, h("div", {}, heading, h("p", {}, t(`${name}_about`))), tools));
  if (focus) heading.focus();
  const body = h("div", { class: "stack" });
  main.append(body);
  await attempt(body, () => views[name]({ body, tools, isShown: () => shown === number }));
}

/** Run `load`; a failure is shown in `place` with a button to try again. */
export async function attempt(place, load) {
  try {
    await load();
  } catch (error) {
    if (!isSignedIn()) return;
    place.replaceChildren(h("div", { class: "card" }, h("div", { class: "notice bad", role: "alert" }, error.message),
      acts(button(t("retry"), () => attempt(place, load), { class: "primary" }))));
  }
}

export const reload = () => show(view, { focus: false });
