/** Signing keys and seal keys. */

import { api } from "./calls.js";
import { confirmAct, toast } from "./dialogs.js";
import { button, chip, duration, h, section, table } from "./elements.js";
import { reload } from "./frame.js";
import { t } from "./texts.js";

const KEY_KIND = { present: "good", former: "warn" };

export async function showKeys({ body, tools }) {
  const { signing, seal } = await api("GET", "keys");
  tools.append(button(t("rotate"), rotateKeys, { class: "primary" }));
  body.replaceChildren(
    section(h("h2", {}, t("signing")), table(t("signing"), ["algorithm", "status", "key_age", "id"], signing.map((key) => [
      key.algorithm, chip(t(key.status), KEY_KIND[key.status]), key.age === null ? "–" : duration(key.age), h("code", {}, key.kid)]))),
    section(h("h2", {}, t("seal")), table(t("seal"), ["status", "id"], seal.map((key) => [chip(t(`seal_${key.status}`), KEY_KIND[key.status]), h("code", {}, key.id)]))));
}

async function rotateKeys() {
  const force = h("input", { type: "checkbox" });
  const rotate = () => api("POST", "keys/rotate", force.checked ? { now: true } : {});
  const about = h("span", {}, t("rotate_about"), " ", h("label", { class: "check" }, force, t("rotate_force")));
  if (await confirmAct(t("rotate_ask"), about, t("rotate"), rotate)) {
    toast(t("rotated"));
    reload();
  }
}
