/** Notices and dialogs. */

import { isSignedIn } from "./calls.js";
import { acts, button, h } from "./elements.js";
import { t } from "./texts.js";

export const toasts = h("div", { class: "toast", role: "status", "aria-live": "polite" });

export function toast(text, kind = "") {
  const notice = h("div", { class: `notice ${kind}` }, text);
  toasts.append(notice);
  setTimeout(() => notice.remove(), kind === "bad" ? 12000 : 5000);
}

/** Run `act`; a failure is shown in `place`, or as a notice on the page, which a dialog covers. */
export async function report(act, place) {
  try {
    await act();
  } catch (error) {
    if (place) place.replaceChildren(h("div", { class: "notice bad" }, error.message));
    else if (isSignedIn()) toast(error.message, "bad");
  }
}

export function showDialog(title, content, { large = false } = {}) {
  const heading = h("h2", { id: `dialog-${Date.now()}` }, title);
  const dialog = h("dialog", { class: large ? "large" : "", "aria-labelledby": heading.id });
  const opener = document.activeElement;
  dialog.addEventListener("close", () => { dialog.remove(); if (opener?.isConnected) opener.focus(); });
  dialog.append(h("form", { onsubmit: (event) => event.preventDefault() }, heading, content(dialog)));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before an act. `act` returns when it is done; its failure is shown in the dialog. */
export function confirmAct(title, about, label, act, { destroys = true } = {}) {
  return new Promise((resolve) => {
    const dialog = showDialog(title, (own) => {
      const problem = h("div", { role: "alert" });
      const submit = button(label, async () => {
        submit.disabled = true;
        try {
          await act();
          own.close("done");
        } catch (error) {
          submit.disabled = false;
          problem.replaceChildren(h("div", { class: "notice bad" }, error.message));
        }
      }, { class: destroys ? "destroy" : "primary" });
      return [h("p", {}, about), problem, acts(button(t("cancel"), () => own.close(), { autofocus: true }), submit)];
    });
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "done"));
  });
}

/** Show a form. `save` gets its values; a failure is shown in the dialog. */
export function showForm(title, fields, save, options = {}) {
  showDialog(title, (own) => {
    const problem = h("div", { role: "alert" });
    const submit = h("button", { class: "primary", type: "submit" }, options.label ?? t("save"));
    const run = async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        await save();
        own.close("done");
      } catch (error) {
        problem.replaceChildren(h("div", { class: "notice bad" }, error.message));
        problem.scrollIntoView({ block: "nearest" });
      }
      submit.disabled = false;
    };
    setTimeout(() => own.querySelector("form").addEventListener("submit", run));
    return [options.before, h("div", { class: "fields" }, fields), options.after, problem, acts(button(t("cancel"), () => own.close()), submit)];
  }, options);
}

export function copyField(label, value) {
  const input = h("input", { readonly: true, value, "aria-label": label });
  const copy = button(t("copy"), async () => {
    try {
      await navigator.clipboard.writeText(value);
    } catch {
      input.select();
      document.execCommand("copy");
    }
    copy.textContent = t("copied");
  });
  return h("div", { class: "secret" }, input, copy);
}

export function showSecret(title, label, value, more = []) {
  showDialog(title, (own) => [h("p", {}, t("shown_once")), h("label", {}, label), copyField(label, value), more,
    acts(button(t("done"), () => own.close(), { class: "primary" }))]);
}
