/** Form controls of the fields of apps and users. */

import { field, h } from "./elements.js";
import { t } from "./texts.js";

export const TEXT = "text", LIST = "list", FLAG = "flag", NUMBER = "number", SECRET = "secret";

const REQUIRED_TEXT = new Set(["name", "provider", "provider_app_id", "phone_app", "wafer_host", "rooms"]);

function control([key, kind], value) {
  const name = h("code", {}, key);
  if (Array.isArray(kind)) {
    const control = h("select", {}, kind.map((one) => h("option", { value: one, selected: one === value }, one)));
    return { label: field(name, control), read: () => control.value };
  }
  if (kind === FLAG) {
    const control = h("input", { type: "checkbox", checked: Boolean(value) });
    return { label: h("label", { class: "check" }, control, name), read: () => control.checked };
  }
  if (kind === LIST) {
    const control = h("textarea", { value: (value ?? []).join("\n"), spellcheck: "false" });
    return { label: field(name, control, t("list_hint")), read: () => control.value.split(/\s+/).filter(Boolean) };
  }
  if (kind === NUMBER) {
    const control = h("input", { type: "number", value: value ?? "" });
    return { label: field(name, control, t("app_fields_unset")), read: () => (control.value === "" ? null : Number(control.value)) };
  }
  if (kind === SECRET) {
    const control = h("input", { type: "password", autocomplete: "new-password" });
    return { label: field(name, control, t("keep_hint")), read: () => control.value || undefined };
  }
  const control = h("input", { value: value ?? "", spellcheck: "false" });
  const isRequired = REQUIRED_TEXT.has(key);
  return { label: field(name, control), read: () => control.value.trim() || (isRequired ? "" : null) };
}

/** Return the controls of groups of fields, and a function that returns what differs from `values`. */
export function controls(groups, values) {
  const made = Object.entries(groups).map(([group, fields]) => [group, fields.map((one) => [one[0], control(one, values[one[0]])])]);
  const sets = made.map(([group, fields]) => h("fieldset", { class: "wide" }, h("legend", {}, t(group)), h("div", { class: "fields" }, fields.map(([, one]) => one.label))));
  const before = Object.fromEntries(made.flatMap(([, fields]) => fields.map(([name, one]) => [name, JSON.stringify(one.read())])));
  const changes = () => Object.fromEntries(made.flatMap(([, fields]) => fields.map(([name, one]) => [name, one.read()]))
    .filter(([name, value]) => value !== undefined && JSON.stringify(value) !== before[name]));
  return { sets, changes };
}
