/** Pools of codes. */

import { api } from "./calls.js";
import { report, showForm, toast } from "./dialogs.js";
import { acts, button, chip, empty, field, h, section, since, table } from "./elements.js";
import { follow } from "./events.js";
import { t, word } from "./texts.js";

const HEALTH_KIND = { healthy: "good", low: "warn", empty: "bad" };

export async function showPool({ body, isShown }) {
  async function refresh() {
    const { pools } = await api("GET", "pool");
    if (!isShown()) return;
    const errors = pools.filter((pool) => pool.error).map((pool) => h("div", { class: "notice bad", role: "alert" }, `${pool.app}: ${t("refill_failed", { reason: pool.error })}`));
    body.replaceChildren(...errors, section(null, pools.length
      ? table(t("pool"), ["app", "health", "free", "leased", "cooldown", "target", "rate", "refilled", "actions"], pools.map((pool) => [
        pool.app, chip(word(pool.health), HEALTH_KIND[pool.health]), pool.free, pool.leased, pool.cooldown, pool.target, (pool.lease_rate * 60).toFixed(1), pool.refilled_at ? since(pool.refilled_at) : "–",
        acts(button(t("fill"), () => fillPool(pool, refresh), { class: "row-act", "aria-label": `${t("fill")} ${pool.app}` })),
      ]))
      : empty(t("no_pools"), t("no_pools_about"))));
  }
  await refresh();
  follow(["pool"], isShown, async () => { if (!document.querySelector("dialog")) await refresh(); });
}

function fillPool(pool, refresh) {
  const count = h("input", { type: "number", required: true, min: "1", max: "1000000", value: Math.max(pool.target, pool.free + pool.leased + pool.cooldown) });
  showForm(t("fill_title", { id: pool.app }), [field(t("fill_count"), count)], async () => {
    await api("POST", `pool/${pool.app}/fill`, { count: Number(count.value) });
    toast(t("fill_started"));
    report(refresh);
  }, { label: t("fill") });
}
