// The admin page. The token is in memory only. Text from the broker is set as text, never as HTML.

// --- texts

const EN = {
  title: "Administration", language: "中文",
  sign_in_with_token: "Enter the value of SCAN_LOGIN_ADMIN_TOKEN.", token: "Admin token", sign_in: "Sign in",
  or: "or", sign_in_by_scan: "Sign in by scan", sign_out: "Sign out",
  wrong_token: "This token is wrong. Copy the value of SCAN_LOGIN_ADMIN_TOKEN from the broker's settings.",
  ended: "Your sign-in has ended. Sign in again.",
  not_operator: "You are signed in, but you are not an operator. Add your subject to SCAN_LOGIN_ADMIN_SUBJECTS.",
  scan_failed: "The sign-in by scan did not succeed. Try again, or use the token.",
  scan_elsewhere: "The sign-in by scan works at {url} only (SCAN_LOGIN_ADMIN_URL). Open the page there, or use the token.",
  scan_insecure: "The sign-in by scan needs https or localhost. Open the page there, or use the token.",
  unreachable: "The broker does not answer. Check that it runs and that this page can reach it, then try again.",
  retry: "Try again", cancel: "Cancel", close: "Close", save: "Save", search: "Search", more: "Show more", all: "All",
  copy: "Copy", copied: "Copied", add: "Add", edit: "Edit", remove: "Delete", end: "End", end_all: "End all", none: "none",
  done: "Done", saved: "Saved", optional: "optional", actions: "Actions",
  shown_once: "This is shown once. Copy it now: the broker cannot show it again.",
  live: "Live", live_about: "Logins whose browsers wait now, at all instances.",
  watching: "Updates live", not_watching: "Updates every 15 s",
  waiting: "Waiting browsers", app: "App", state: "State", age: "Age", ip: "Address", browser: "Browser", instance: "Instance",
  pending: "pending", scanned: "scanned", confirmed: "confirmed", redeemed: "redeemed", denied: "denied", expired: "expired", cancelled: "cancelled",
  missing: "These instances did not answer, so their logins are missing here: {names}. Check that they run and have the same admin token.",
  no_logins: "No browser waits", no_logins_about: "A login appears here as soon as a browser shows a code.",
  end_login: "End this login?", end_login_about: "The browser shows that its code has expired. The person can begin again.",
  apps: "Apps", apps_about: "Sites, mini programs and OpenID Connect products that log users in.",
  no_apps: "No apps yet", no_apps_about: "The app “default” comes from the settings. Add an app for each further site.",
  add_app: "Add an app", app_removed: "App deleted", changed: "Changed", name: "Name", id: "Id", provider: "Provider", client_type: "Client type",
  delete_app: "Delete the app {id}?", delete_app_about: "Logins in progress finish; new ones are refused. Its secret and its settings are lost.",
  rotate_secret: "New secret", rotate_secret_ask: "Replace the secret of {id}?", rotate_secret_about: "The present secret stops working at once. The app's servers need the new one.",
  rotate_webhook: "New webhook secret", rotate_webhook_ask: "Add a webhook secret to {id}?", rotate_webhook_about: "The present one also signs until you do this again.",
  api_secret: "Secret of the app's servers", webhook_secret: "Webhook secret",
  basics: "App", oidc: "OpenID Connect", security: "Anti-phishing", tunnel_chat: "Tunnels, chat and webhooks", files: "Files", connect: "Connect a site",
  snippet_page: "A page of the site", snippet_oidc: "An OpenID Connect product",
  list_hint: "one per line", keep_hint: "leave empty to keep it", app_fields_unset: "empty: not set",
  users: "Users", users_about: "Users in the broker's records, and their phones.",
  no_users: "No users yet", no_users_about: "Add a user, then invite the person: the phone that opens the invitation becomes the user's.",
  not_recorded: "The broker keeps no users", not_recorded_about: "Everyone may log in, or your site decides. Set SCAN_LOGIN_DIRECTORY=sql to keep users here.",
  add_user: "Add a user", blocked: "blocked", active: "active", identities: "Phones", block: "Block", unblock: "Unblock",
  block_ask: "Block {id}?", block_about: "The user's sign-ins end within 2 seconds, and new logins are denied.",
  delete_user: "Delete the user {id}?", delete_user_about: "The user's phones and invitations are deleted too. Sign-ins end within 2 seconds.",
  invite: "Invite", invitation: "Invitation", invite_about: "The phone that scans this code, or opens the link, becomes the user's. It works once, for {hours} h. A newer invitation replaces it.",
  link: "Link a phone", unlink: "Unlink", unlink_ask: "Unlink this phone?", unlink_about: "The person can no longer log in with it. All invitations of the user end.",
  link_address: "Link", user_of: "User {id}", no_identities: "No phone is linked. Invite the person.", claims: "Claims", groups: "Groups",
  provider_app_id: "App id at the provider", openid: "Openid",
  sessions: "Sessions", sessions_about: "The sign-ins of a person: browsers by subject, phones by app and openid.",
  signins: "Sign-in sessions", phones: "Phone sessions", subject: "Subject", find: "Find",
  find_subject: "Find the sign-ins of a subject", find_subject_about: "The subject is the token's “sub”, such as a user's id.",
  find_phone: "Find the sessions of a phone", find_phone_about: "The openid is that of the person at the provider, in one app.",
  no_signins: "No sign-ins", no_signins_about: "This subject is signed in nowhere.", no_sessions: "No sessions", no_sessions_about: "No phone of this person has a session in this app.",
  apps_used: "Apps", began: "Began", used: "Last use", expires_in: "Ends in", offline: "offline access",
  end_signin: "End this sign-in?", end_signin_about: "The apps that use it are notified, and their tokens stop working.",
  end_signins: "End all sign-ins of {id}?", end_session: "End this session?", end_session_about: "The phone has to log in again, and its tunnels close.", end_sessions: "End all sessions of {id}?",
  pool: "Pool", pool_about: "Codes that are drawn in advance, for each app with a pool.",
  no_pools: "No app has a pool", no_pools_about: "Codes are drawn for each login. Set the code source of an app to “pool” to draw them in advance.",
  free: "Free", leased: "Leased", cooldown: "Cooldown", target: "Target", rate: "Leases per minute", refilled: "Last refill", health: "Health",
  healthy: "healthy", low: "low", empty: "empty", unknown: "unknown", fill: "Fill", fill_title: "Fill the pool of {id}", fill_count: "Codes that the pool should have", fill_started: "The broker draws codes in the background.",
  refill_failed: "The last refill failed: {reason}",
  audit: "Audit log", audit_about: "Finished logins, sign-ins and the acts of operators.", kind: "Kind", time: "Time", actor: "Operator", reason: "Reason", export: "Export",
  no_entries: "No entries", no_entries_about: "Change the search, or wait for the next login.", since: "Since",
  login: "login", signin: "sign-in", refresh: "refresh", logout: "sign-out", admin: "operator", target_id: "Target",
  no_audit: "The audit log is not available", no_audit_about: "This broker has no call for it.",
  keys: "Keys", keys_about: "Keys that sign tokens, and keys that encrypt secrets in the database.",
  signing: "Signing keys", seal: "Seal keys", key_age: "Published for", algorithm: "Algorithm", status: "Status", present: "signs", next: "next", former: "former", seal_present: "encrypts", seal_former: "decrypts only",
  rotate: "Rotate", rotate_ask: "Rotate the signing keys?", rotate_about: "The next keys sign from now on. Issued tokens stay valid.", rotate_force: "Rotate now, because a key leaked", rotated: "The next keys sign now.",
  system: "System", system_about: "Instances that share the state, and the settings of the instance that answers.",
  instances: "Instances", version: "Version", ready: "ready", not_ready: "not ready", roles: "Roles", started: "Started", seen: "Seen", tunnels: "Tunnels", chat: "Chat", answering: "answers you",
  settings: "Settings", setting: "Setting", value: "Value", source: "Source", filter: "Filter", only_set: "Only those that are set", default: "default", environment: "environment", file: "file", option: "command",
  ago: "{time} ago", s: "{n} s", min: "{n} min", h: "{n} h", d: "{n} d",
};

const ZH = {
  title: "管理", language: "English",
  sign_in_with_token: "请输入 SCAN_LOGIN_ADMIN_TOKEN 的值。", token: "管理令牌", sign_in: "登录", or: "或", sign_in_by_scan: "扫码登录", sign_out: "退出",
  wrong_token: "令牌错误。请从登录服务的配置中复制 SCAN_LOGIN_ADMIN_TOKEN 的值。",
  ended: "登录已结束，请重新登录。", not_operator: "您已登录，但不是运维人员。请把您的 subject 加入 SCAN_LOGIN_ADMIN_SUBJECTS。",
  scan_elsewhere: "扫码登录只能在 {url}（SCAN_LOGIN_ADMIN_URL）使用。请在那里打开本页，或使用令牌。",
  scan_insecure: "扫码登录需要 https 或 localhost。请用这样的地址打开本页，或使用令牌。",
  scan_failed: "扫码登录未成功。请重试，或使用令牌。", unreachable: "登录服务没有响应。请确认它正在运行且本页可以访问它，然后重试。",
  retry: "重试", cancel: "取消", close: "关闭", save: "保存", search: "搜索", more: "显示更多", all: "全部", copy: "复制", copied: "已复制", add: "添加", edit: "编辑", remove: "删除",
  end: "结束", end_all: "全部结束", none: "无", done: "完成", saved: "已保存", optional: "可选", actions: "操作",
  shown_once: "只显示一次，请立即复制：登录服务无法再次显示。",
  live: "实时", live_about: "所有实例上浏览器正在等待的登录。", watching: "实时更新", not_watching: "每 15 秒更新", waiting: "等待中的浏览器",
  app: "应用", state: "状态", age: "已等待", ip: "地址", browser: "浏览器", instance: "实例",
  pending: "等待扫码", scanned: "已扫码", confirmed: "已确认", redeemed: "已登录", denied: "已拒绝", expired: "已过期", cancelled: "已取消",
  missing: "以下实例没有应答，这里缺少它们的登录：{names}。请确认它们正在运行并使用相同的管理令牌。",
  no_logins: "没有浏览器在等待", no_logins_about: "浏览器显示登录码后，登录会出现在这里。", end_login: "结束此登录？", end_login_about: "浏览器会显示登录码已过期，用户可以重新开始。",
  apps: "应用", apps_about: "使用扫码登录的网站、小程序和 OpenID Connect 产品。", no_apps: "还没有应用", no_apps_about: "应用“default”来自配置。请为其他每个网站添加应用。",
  add_app: "添加应用", app_removed: "应用已删除", changed: "修改时间", name: "名称", id: "Id", provider: "身份提供方", client_type: "客户端类型",
  delete_app: "删除应用 {id}？", delete_app_about: "进行中的登录会完成，新的登录会被拒绝。它的密钥和设置将丢失。",
  rotate_secret: "更换密钥", rotate_secret_ask: "更换 {id} 的密钥？", rotate_secret_about: "当前密钥立即失效，应用的服务器需要新密钥。",
  rotate_webhook: "新增 webhook 密钥", rotate_webhook_ask: "为 {id} 新增 webhook 密钥？", rotate_webhook_about: "再次新增之前，当前密钥也参与签名。",
  api_secret: "应用服务器的密钥", webhook_secret: "Webhook 密钥", basics: "应用", oidc: "OpenID Connect", security: "防钓鱼", tunnel_chat: "信道、聊天和 webhook", files: "文件", connect: "接入网站",
  snippet_page: "网站的网页", snippet_oidc: "OpenID Connect 产品", list_hint: "每行一个", keep_hint: "留空则保持不变", app_fields_unset: "留空表示未设置",
  users: "用户", users_about: "登录服务记录的用户和他们的手机。", no_users: "还没有用户", no_users_about: "添加用户后邀请本人：打开邀请的手机将归该用户使用。",
  not_recorded: "登录服务不保存用户", not_recorded_about: "所有人都可以登录，或由您的网站决定。设置 SCAN_LOGIN_DIRECTORY=sql 可以在这里保存用户。",
  add_user: "添加用户", blocked: "已封禁", active: "正常", identities: "手机", block: "封禁", unblock: "解除封禁", block_ask: "封禁 {id}？", block_about: "该用户的登录在 2 秒内结束，新的登录会被拒绝。",
  delete_user: "删除用户 {id}？", delete_user_about: "该用户的手机和邀请也会删除，登录在 2 秒内结束。",
  invite: "邀请", invitation: "邀请", invite_about: "扫描此码或打开链接的手机将归该用户使用。仅可使用一次，{hours} 小时内有效。新的邀请会取代它。",
  link: "关联手机", unlink: "取消关联", unlink_ask: "取消关联此手机？", unlink_about: "用户不能再用它登录。该用户的所有邀请都会失效。",
  link_address: "链接", user_of: "用户 {id}", no_identities: "没有关联的手机，请邀请本人。", claims: "用户信息", groups: "用户组", provider_app_id: "提供方的应用 id", openid: "Openid",
  sessions: "会话", sessions_about: "查看一个人在哪里登录：按 subject 查浏览器，按应用和 openid 查手机。", signins: "网页登录", phones: "手机会话", subject: "Subject", find: "查找",
  find_subject: "查找某个 subject 的登录", find_subject_about: "Subject 是令牌的“sub”，例如用户的 id。", find_phone: "查找手机的会话", find_phone_about: "Openid 是此人在身份提供方的标识，属于一个应用。",
  no_signins: "没有登录", no_signins_about: "此 subject 没有在任何地方登录。", no_sessions: "没有会话", no_sessions_about: "此人在该应用中没有手机会话。",
  apps_used: "应用", began: "开始", used: "最近使用", expires_in: "剩余", offline: "离线访问", end_signin: "结束此登录？", end_signin_about: "会通知使用它的应用，它们的令牌失效。", end_signins: "结束 {id} 的所有登录？",
  end_session: "结束此会话？", end_session_about: "手机需要重新登录，它的信道会关闭。", end_sessions: "结束 {id} 的所有会话？",
  pool: "码池", pool_about: "为使用码池的应用预先生成的登录码。", no_pools: "没有应用使用码池", no_pools_about: "登录码在每次登录时生成。把应用的登录码来源设为“pool”即可预先生成。",
  free: "空闲", leased: "使用中", cooldown: "冷却中", target: "目标", rate: "每分钟使用", refilled: "最近补充", health: "状况", healthy: "正常", low: "偏低", empty: "已空", unknown: "未知",
  fill: "补充", fill_title: "补充 {id} 的码池", fill_count: "码池应有的登录码数量", fill_started: "登录服务正在后台生成登录码。", refill_failed: "最近一次补充失败：{reason}",
  audit: "审计日志", audit_about: "已结束的登录、网页登录和运维人员的操作。", kind: "类型", time: "时间", actor: "运维人员", reason: "原因", export: "导出", no_entries: "没有记录", no_entries_about: "请修改搜索条件，或等待下一次登录。", since: "起始时间",
  login: "登录", signin: "网页登录", refresh: "刷新令牌", logout: "退出", admin: "运维操作", target_id: "对象",
  no_audit: "审计日志不可用", no_audit_about: "此登录服务没有该接口。",
  keys: "密钥", keys_about: "签发令牌的密钥，以及加密数据库中机密的密钥。", signing: "签名密钥", seal: "加密密钥", key_age: "已公布", algorithm: "算法", status: "状态", present: "签名中", next: "下一个", former: "旧密钥", seal_present: "加密中", seal_former: "仅解密",
  rotate: "轮换", rotate_ask: "轮换签名密钥？", rotate_about: "从现在起用下一个密钥签名。已签发的令牌保持有效。", rotate_force: "密钥已泄露，立即轮换", rotated: "现在使用下一个密钥签名。",
  system: "系统", system_about: "共享状态的实例，以及应答实例的配置。", instances: "实例", version: "版本", ready: "就绪", not_ready: "未就绪", roles: "角色", started: "启动", seen: "最近出现", tunnels: "信道", chat: "聊天", answering: "正在应答",
  settings: "配置", setting: "配置项", value: "值", source: "来源", filter: "筛选", only_set: "仅显示已设置的", default: "默认值", environment: "环境变量", file: "文件", option: "命令",
  ago: "{time}前", s: "{n} 秒", min: "{n} 分钟", h: "{n} 小时", d: "{n} 天",
};

const TEXTS = { en: EN, zh: ZH };
let language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

function t(name, values = {}) {
  const text = TEXTS[language][name] ?? name;
  return text.replace(/{(\w+)}/g, (whole, key) => values[key] ?? whole);
}

/** Return the translation of a word of the API, or the word itself. */
function word(value) {
  return Object.hasOwn(TEXTS[language], value) ? t(value) : value;
}

// --- elements

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else if (name === "value") element.value = value;
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);

const chip = (text, kind = "") => h("span", { class: `chip ${kind}` }, text);

function empty(title, about, act) {
  return h("div", { class: "empty" }, h("strong", {}, title), h("p", {}, about), act);
}

function table(caption, columns, rows) {
  return h("div", { class: "scroll" },
    h("table", { role: "table" },
      h("caption", { class: "hidden" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((name) =>
        h("th", { scope: "col", role: "columnheader", class: name === "actions" ? "end" : "" },
          name === "actions" ? h("span", { class: "hidden" }, t("actions")) : t(name))))),
      h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, at) =>
        h("td", { role: "cell", "data-name": columns[at] === "actions" ? "" : t(columns[at]),
          class: columns[at] === "actions" ? "end" : typeof cell === "number" ? "number" : "" },
        cell ?? "–")))))));
}

const acts = (...buttons) => h("div", { class: "acts" }, buttons);

function field(label, control, hint) {
  return h("label", {}, label, control, hint ? h("small", {}, hint) : null);
}

function duration(seconds) {
  const steps = [["d", 86400], ["h", 3600], ["min", 60]];
  for (const [unit, size] of steps) if (seconds >= 2 * size) return t(unit, { n: Math.floor(seconds / size) });
  return t("s", { n: Math.max(0, Math.floor(seconds)) });
}

const since = (time) => h("time", { title: new Date(time * 1000).toLocaleString(language) },
  t("ago", { time: duration(Date.now() / 1000 - time) }));

// --- calls

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const broker = meta("broker"), client = meta("client"), adminURL = meta("admin");
let token = "";

class Failure extends Error {
  constructor(status, answer) {
    super(answer.error_description ?? t("unreachable"));
    this.status = status;
    this.word = answer.error ?? "";
  }
}

async function request(method, path, body, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, {});
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && token && frame) signOut(t("ended"));
  throw new Failure(response.status, answer);
}

async function api(method, path, body) {
  const response = await request(method, path, body);
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

const query = (fields) => new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined)).toString();

// --- notices and dialogs

const toasts = h("div", { class: "toast", role: "status", "aria-live": "polite" });

function toast(text, kind = "") {
  const notice = h("div", { class: `notice ${kind}` }, text);
  toasts.append(notice);
  setTimeout(() => notice.remove(), kind === "bad" ? 12000 : 5000);
}

/** Run `act`; a failure is shown in `place`, or as a notice on the page, which a dialog covers. */
async function report(act, place) {
  try {
    await act();
  } catch (error) {
    if (place) place.replaceChildren(h("div", { class: "notice bad" }, error.message));
    else if (frame) toast(error.message, "bad");
  }
}

function showDialog(title, content, { large = false } = {}) {
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
function confirmAct(title, about, label, act, { destroys = true } = {}) {
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
function showForm(title, fields, save, options = {}) {
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

function copyField(label, value) {
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

function showSecret(title, label, value, more = []) {
  showDialog(title, (own) => [h("p", {}, t("shown_once")), h("label", {}, label), copyField(label, value), more,
    acts(button(t("done"), () => own.close(), { class: "primary" }))]);
}

// --- sign-in

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
async function finishScan() {
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

async function signIn(value, refusal) {
  token = value;
  try {
    await request("GET", "instances");
  } catch (error) {
    token = "";
    throw error.status === 401 ? new Error(refusal) : error;
  }
  showFrame();
}

function signOut(message = "") {
  token = "";
  frame = null;
  shown += 1;
  stopWatching();
  document.querySelectorAll("dialog").forEach((dialog) => dialog.remove());
  showSignIn(message);
}

function setLanguage(next) {
  language = next;
  if (frame) showFrame();
  else showSignIn();
}

const languageButton = () => button(t("language"), () => setLanguage(language === "zh" ? "en" : "zh"),
  { class: "plain", lang: language === "zh" ? "en" : "zh-CN" });

function showSignIn(message = "") {
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
    } catch (error) {
      problem.replaceChildren(h("div", { class: "notice bad" }, error.message));
      input.select();
    }
    submit.disabled = false;
  } }, field(t("token"), input), submit);
  const scan = client ? [h("div", { class: "or" }, t("or")), button(t("sign_in_by_scan"), () => report(beginScan, problem))] : [];
  document.body.replaceChildren(h("div", { class: "sign-in" }, h("main", {},
    h("div", { class: "brand" }, "scan-login"), h("h1", {}, t("title")), h("p", {}, t("sign_in_with_token")),
    problem, form, scan, h("footer", {}, languageButton()))), toasts);
  input.focus();
}

// --- frame

let frame = null, view = "live", main = null, shown = 0;

function showFrame() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  main = h("main", { class: "content" });
  const tabs = Object.keys(VIEWS).map((name) => button(t(name), () => show(name), { "data-view": name }));
  frame = h("div", { class: "frame" }, h("div", { class: "side" },
    h("div", { class: "brand" }, "scan-login"), h("nav", { "aria-label": t("title") }, tabs),
    h("footer", {}, languageButton(), button(t("sign_out"), () => signOut(), { class: "plain" }))), main);
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
  await attempt(body, () => VIEWS[name]({ body, tools, isShown: () => shown === number }));
}

/** Run `load`; a failure is shown in `place` with a button to try again. */
async function attempt(place, load) {
  try {
    await load();
  } catch (error) {
    if (!frame) return;
    place.replaceChildren(h("div", { class: "card" }, h("div", { class: "notice bad", role: "alert" }, error.message),
      acts(button(t("retry"), () => attempt(place, load), { class: "primary" }))));
  }
}

const reload = () => show(view, { focus: false });

const section = (title, ...content) => h("section", { class: "card" }, title ? h("header", {}, title) : null, content);

// --- events of the broker

let watching = null, isWatching = false;
const listeners = new Set();

function stopWatching() {
  watching?.abort();
  watching = null;
  isWatching = false;
}

async function watch() {
  stopWatching();
  const own = watching = new AbortController();
  while (watching === own) {
    try {
      const response = await request("GET", "events", undefined, { signal: own.signal });
      isWatching = true;
      announce("lost");
      await readEvents(response.body);
    } catch (error) {
      if (error.name === "AbortError" || !frame) return;
    }
    isWatching = false;
    announce("status");
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

async function readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("event: ")) announce(line.slice(7));
  }
}

const announce = (kind) => listeners.forEach((listener) => listener(kind));

const FOLLOW_PAUSE_MS = 1500, FOLLOW_INTERVAL_MS = 15000;

/** Call `refresh` after events of these kinds, and every 15 s, while the view is shown.
 *
 * One call at a time, with a pause after it. The events of a call and its pause cause one more
 * call. A failed call is repeated by the next event or interval. */
function follow(kinds, isShown, refresh) {
  let isBusy = false, isWanted = false;
  const run = async () => {
    if (!isShown()) return stop();
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    while (isWanted && isShown()) {
      isWanted = false;
      await refresh().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_PAUSE_MS));
    }
    isBusy = false;
  };
  const listener = (kind) => { if (["lost", "status", ...kinds].includes(kind)) run(); };
  const timer = setInterval(run, FOLLOW_INTERVAL_MS);
  const stop = () => { listeners.delete(listener); clearInterval(timer); };
  listeners.add(listener);
}

// --- live

const STATES = ["pending", "scanned", "confirmed"];
const STATE_KIND = { confirmed: "good", redeemed: "good", denied: "bad", expired: "warn", cancelled: "warn" };

function select(values, { label, chosen = "", texts = word, onchange } = {}) {
  const control = h("select", { onchange }, values.map((value) => h("option", { value, selected: value === chosen }, value === "" ? t("all") : texts(value))));
  return [field(label, control), control];
}

async function showLive({ body, tools, isShown }) {
  const status = h("span", { class: "live", role: "status" });
  tools.append(status);
  const app = h("input", { maxlength: "64", oninput: () => report(refresh) });
  const [stateField, state] = select(["", ...STATES], { label: t("state"), onchange: () => report(refresh) });
  const counts = h("div", { class: "counts" }), list = section(null);
  const missing = h("div");
  body.replaceChildren(counts, missing, h("div", { class: "tools" }, field(t("app"), app), stateField), list);
  let limit = 200;

  async function refresh() {
    const answer = await api("GET", `logins?${query({ app: app.value.trim(), state: state.value, limit })}`);
    if (!isShown()) return;
    status.textContent = isWatching ? t("watching") : t("not_watching");
    status.classList.toggle("on", isWatching);
    showCounts(counts, answer);
    missing.replaceChildren(...(answer.missing.length
      ? [h("div", { class: "notice warn", role: "alert" }, t("missing", { names: answer.missing.join(", ") }))] : []));
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    list.replaceChildren(loginTable(answer.logins, refresh), ...(answer.next && limit < 999 ? [acts(button(t("more"), () => { limit = 999; report(refresh); }))] : []));
    if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  await refresh();
  follow(["login", "instance"], isShown, refresh);
}

function showCounts(place, answer) {
  const count = (name, number) => h("div", { class: "count" }, h("strong", {}, String(number)), h("span", {}, name));
  const apps = [...new Set(answer.logins.map((one) => one.app))].sort();
  place.replaceChildren(count(t("waiting"), answer.total),
    ...STATES.map((state) => count(t(state), answer.logins.filter((one) => one.state === state).length)),
    ...(apps.length > 1 ? apps.slice(0, 6).map((app) => count(app, answer.logins.filter((one) => one.app === app).length)) : []));
}

function loginTable(logins, refresh) {
  if (!logins.length) return empty(t("no_logins"), t("no_logins_about"));
  return table(t("live"), ["app", "state", "age", "ip", "browser", "instance", "actions"], logins.map((one) => [
    one.app, chip(word(one.state), STATE_KIND[one.state]), duration(Date.now() / 1000 - one.since), one.ip || "–",
    h("span", { class: "muted" }, one.user_agent || "–"), h("code", {}, one.instance),
    acts(button(t("end"), async () => {
      if (await confirmAct(t("end_login"), t("end_login_about"), t("end"), () => api("DELETE", `logins/${one.login_id}`))) report(refresh);
    }, { class: "row-act", "data-key": one.login_id, "aria-label": `${t("end")}: ${one.app}, ${one.ip}` })),
  ]));
}

// --- apps

const TEXT = "text", LIST = "list", FLAG = "flag", NUMBER = "number", SECRET = "secret";

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
function controls(groups, values) {
  const made = Object.entries(groups).map(([group, fields]) => [group, fields.map((one) => [one[0], control(one, values[one[0]])])]);
  const sets = made.map(([group, fields]) => h("fieldset", { class: "wide" }, h("legend", {}, t(group)), h("div", { class: "fields" }, fields.map(([, one]) => one.label))));
  const before = Object.fromEntries(made.flatMap(([, fields]) => fields.map(([name, one]) => [name, JSON.stringify(one.read())])));
  const changes = () => Object.fromEntries(made.flatMap(([, fields]) => fields.map(([name, one]) => [name, one.read()]))
    .filter(([name, value]) => value !== undefined && JSON.stringify(value) !== before[name]));
  return { sets, changes };
}

async function showApps({ body, tools }) {
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
    if (!answer.ok) throw new Error("the site rejected the token");
    location.assign("/account");
  };
</script>`;
  const oidc = `issuer         ${broker}\nclient_id      ${app.id}\nclient_secret  ${app.client_type === "public" ? "–" : "…"}\nredirect_uri   ${app.redirect_urls[0] ?? "https://…/callback"}\nscopes         ${app.scopes.join(" ")}`;
  showDialog(`${t("connect")}: ${app.id}`, (own) => [h("h3", {}, t("snippet_page")), h("pre", { tabindex: "0" }, page), h("h3", {}, t("snippet_oidc")), h("pre", { tabindex: "0" }, oidc),
    acts(button(t("close"), () => own.close(), { class: "primary" }))], { large: true });
}

// --- users

const USER_FIELDS = { claims: [["name", TEXT], ["nickname", TEXT], ["preferred_username", TEXT], ["email", TEXT], ["phone_number", TEXT], ["picture", TEXT], ["locale", TEXT], ["zoneinfo", TEXT], ["groups", LIST]] };

async function showUsers({ body, tools }) {
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

// --- sessions

async function showSessions({ body }) {
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

// --- pool

const HEALTH_KIND = { healthy: "good", low: "warn", empty: "bad" };

async function showPool({ body, isShown }) {
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

// --- audit log

const KINDS = ["", "login", "signin", "refresh", "logout", "admin"];
const END_STATES = ["", "redeemed", "denied", "expired", "cancelled"];

async function showAudit({ body, tools }) {
  const app = h("input", { maxlength: "64" }), subject = h("input", { maxlength: "256" }), from = h("input", { type: "datetime-local" });
  const [kindField, kind] = select(KINDS, { label: t("kind") }), [stateField, state] = select(END_STATES, { label: t("state") });
  const result = h("div");
  const load = async (after, entries = []) => {
    const time = from.value ? Math.floor(new Date(from.value).getTime() / 1000) : "";
    const page = await api("GET", `trail?${query({ app: app.value.trim(), subject: subject.value.trim(), kind: kind.value, state: state.value, since: time, after, limit: 100 })}`);
    entries = [...entries, ...page.entries];
    result.replaceChildren(section(null, entries.length
      ? table(t("audit"), ["time", "kind", "app", "state", "subject", "actor", "target_id", "ip", "reason"], entries.map((one) => [
        since(one.at), one.kind ? word(one.kind) : "–", one.app || "–", one.state ? chip(word(one.state), STATE_KIND[one.state]) : "–", one.subject ? h("code", {}, one.subject) : "–", one.actor || "–", one.target ? h("code", {}, one.target) : "–", one.ip || "–", one.reason || "–"]))
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

// --- keys

const KEY_KIND = { present: "good", former: "warn" };

async function showKeys({ body, tools }) {
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

// --- system

async function showSystem({ body, isShown }) {
  const [running, config] = await Promise.all([api("GET", "instances"), api("GET", "config")]);
  const list = section(h("h2", {}, t("instances")));
  const draw = (answer) => list.replaceChildren(h("header", {}, h("h2", {}, t("instances"))),
    table(t("instances"), ["instance", "state", "version", "roles", "waiting", "tunnels", "chat", "started", "seen"], answer.instances.map((one) => [
      h("span", {}, h("code", {}, one.instance), one.instance === answer.answered_by ? h("span", {}, " ", chip(t("answering"))) : null),
      one.ready ? chip(t("ready"), "good") : h("span", {}, chip(t("not_ready"), "bad"), " ", one.reason ?? ""),
      one.version, one.roles.join(", "), one.waiting, one.tunnels, one.chat, since(one.started_at), since(one.seen_at)])));
  draw(running);
  body.replaceChildren(list, settingsSection(config.settings));
  follow(["instance"], isShown, async () => draw(await api("GET", "instances")));
}

function settingsSection(settings) {
  const filter = h("input", { type: "search", oninput: () => draw() }), only = h("input", { type: "checkbox", onchange: () => draw() });
  const rows = h("div");
  const text = (value) => (Array.isArray(value) && value.length ? value.map(String).join(", ") : value === null || value.length === 0 || value === "" ? "–" : String(value));
  const draw = () => {
    const wanted = settings.filter((one) => one.name.includes(filter.value.trim().toLowerCase()) && (!only.checked || one.source !== "default"));
    rows.replaceChildren(wanted.length ? table(t("settings"), ["setting", "value", "source"], wanted.map((one) => [
      h("code", {}, `SCAN_LOGIN_${one.name.toUpperCase()}`), h("code", {}, text(one.value)), h("span", { title: one.source_name ?? "" }, chip(t(one.source), one.source === "default" ? "" : "good"))]))
      : empty(t("none"), ""));
  };
  draw();
  return section(h("h2", {}, t("settings")), h("div", { class: "tools" }, field(t("filter"), filter), h("label", { class: "check" }, only, t("only_set"))), rows);
}

// --- start

const VIEWS = { live: showLive, apps: showApps, users: showUsers, sessions: showSessions, pool: showPool, audit: showAudit, keys: showKeys, system: showSystem };

document.body.append(toasts);
try {
  if (!(await finishScan())) showSignIn();
} catch (error) {
  showSignIn(error.message);
}
