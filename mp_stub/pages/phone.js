// The views of the phone page.
//
//   home ──scan──▶ confirm ──confirm, deny──▶ outcome ──another──▶ home
//                     ├──confirm──▶ digits (match by code) ──▶ outcome
//                     └──────── any error ──────▶┘  └─again──▶ repeat the act
//   home ──sign-ins──▶ signins ──back──▶ home
//
// The page sends each act to its server, which runs the phone.
// Values from the server are set as text, never as HTML.

import { WORDS } from "./words.js";

const ACT_TIMEOUT_MS = 15_000; // longer than the server's timeout for the broker, 10 s
const WATCH_INTERVAL_MS = 2_000; // between two questions whether the browser has sent the digits
const DOUBLE_TAP_MS = 400; // the second tap of a double tap on "scan" must not hit "confirm"

// The icon of each outcome, its tone, and the text of the button "again".
const OUTCOMES = {
  confirmed: { sign: "tick", tone: "good" },
  registered: { sign: "tick", tone: "good" },
  invitationOver: { sign: "clock" },
  denied: { sign: "cross" },
  reported: { sign: "tick", tone: "good" },
  reportedOnly: { sign: "tick" },
  expired: { sign: "clock" },
  taken: { sign: "alert", tone: "bad" },
  unknown: { sign: "question" },
  unreadable: { sign: "question" },
  unregistered: { sign: "person", again: "againRegistered" },
  mismatch: { sign: "alert", tone: "bad" },
  digitsOver: { sign: "clock" },
  digitsWrong: { sign: "alert" },
  over: { sign: "clock" },
  limited: { sign: "clock", again: "again" },
  unreachable: { sign: "cut", tone: "bad", again: "again" },
  offline: { sign: "cut", tone: "bad", again: "again" },
  failed: { sign: "alert", tone: "bad", again: "again" },
};

// The outcome of each error word of the broker. Other words have the outcome "failed".
const OUTCOME_OF = {
  expired_token: "expired",
  already_scanned: "taken",
  unknown_scene: "unknown",
  unregistered_user: "unregistered",
  invalid_state: "over",
  invalid_grant: "over",
  access_denied: "over",
  rate_limited: "limited",
  slow_down: "limited",
  temporarily_unavailable: "unreachable",
  offline: "offline",
};

// The outcome of digits after an error word. After other words, the digits stay.
const DIGITS_OUTCOME_OF = { access_denied: "digitsWrong", expired_token: "digitsOver", invalid_grant: "digitsOver" };

const DOING = {
  scan: "scanning", confirm: "confirming", deny: "denying",
  report: "reporting", register: "registering", signins: "loading", end: "ending", "end-all": "ending",
};
// These errors are about a login. Their outcomes describe no other act.
const LOGIN_ACTS = ["scan", "confirm", "deny"];
const LOGIN_ERRORS = ["invalid_grant", "access_denied", "unregistered_user"];
const INVITATION = /(?:^|[?&]scene=)i\.([\w-]+)/; // in a scene, or in the link with it
const NAME = /^[\p{L}\p{M}\p{Nd}._-]{1,32}$/u;
const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

const phone = {
  language: firstLanguage(),
  name: load("name") ?? "alice",
  scene: query.get("scene")?.trim() ?? "",
  view: "home",
  doing: null, // the act in progress
  login: null, // the answer to the scan, and its time `at`
  chosen: null, // the number that the person chose
  signIns: [],
  sid: null, // the sign-in to end
  outcome: null, // {kind, act, answer, at}
};

// Words

function firstLanguage() {
  const wanted = [query.get("lang"), load("language"), ...navigator.languages];
  const known = wanted.map((tag) => tag?.slice(0, 2).toLowerCase()).find((tag) => tag in WORDS);
  return known ?? "en";
}

function word(key, values = {}) {
  return WORDS[phone.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// Remove control characters and direction overrides: names come from other systems.
function plain(text) {
  return String(text ?? "").replace(/[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, " ").trim();
}

function timeAgo(seconds) {
  const format = new Intl.RelativeTimeFormat(phone.language, { numeric: "auto" });
  if (seconds < 60) return format.format(-seconds, "second");
  if (seconds < 3600) return format.format(-Math.floor(seconds / 60), "minute");
  return format.format(-Math.floor(seconds / 3600), "hour");
}

function formatTime(at, precision = {}) {
  const digits = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...precision };
  return new Intl.DateTimeFormat(phone.language, digits).format(at);
}

function dateTime(at) {
  return new Intl.DateTimeFormat(phone.language, { dateStyle: "medium", timeStyle: "short" }).format(at);
}

function duration(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

// A browser may block storage. The page works without it.
function load(key) {
  try { return localStorage.getItem(`phone-${key}`); } catch { return null; }
}

function save(key, value) {
  try { localStorage.setItem(`phone-${key}`, value); } catch { /* storage is blocked */ }
}

// Views

function show(view) {
  phone.view = view;
  render();
  scrollTo(0, 0); // a narrow screen scrolls the page, a wide one the content of the frame
  byId(view).parentElement.scrollTo(0, 0);
  byId(view).querySelector("h1").focus({ preventScroll: true });
}

function render() {
  document.documentElement.lang = phone.language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = word(element.dataset.word);
  }
  byId("language").textContent = word("language");
  byId("language").lang = phone.language === "zh" ? "en" : "zh-CN";
  for (const view of Object.keys(RENDER)) byId(view).hidden = view !== phone.view;
  RENDER[phone.view]();
  tick();
  document.title = `${byId(phone.view).querySelector("h1").textContent} · ${word("title")}`;
}

function renderHome() {
  const picked = document.querySelector("[name=person]:checked");
  byId("other-field").hidden = picked.value !== "";
  byId("scene-field").hidden = phone.scene !== "";
  byId("scene-ready").hidden = phone.scene === "";
  byId("scene-text").textContent = phone.scene;
  const label = NAME.test(phone.name) ? word("scanAs", { name: phone.name }) : word("scan");
  byId("scan").textContent = phone.doing === "scan" ? word("scanning") : phone.doing === "register" ? word("registering") : label;
  byId("scan").ariaDisabled = String(phone.doing !== null);
  renderButtons([["open-signins", "signins"]]);
}

function renderConfirm() {
  const { app, browser } = phone.login;
  byId("confirm-title").textContent = word("confirmTitle", { site: site() });
  byId("confirm-as").textContent = word("as", { name: phone.name });
  byId("fact-site").textContent = site();
  byId("fact-site").title = plain(app?.id);
  byId("fact-browser").textContent = browserName(browser);
  byId("fact-agent").textContent = plain(browser?.user_agent);
  byId("fact-full").hidden = !browser?.user_agent;
  byId("fact-known").hidden = typeof browser?.known !== "boolean";
  byId("fact-known").textContent = word(browser?.known ? "known" : "notKnown");
  byId("address").hidden = !browser?.origin;
  byId("fact-address").textContent = plain(browser?.origin);
  byId("warning").textContent = word(browser?.origin ? "warningAt" : "warning", { origin: plain(browser?.origin) });
  const scopes = (app?.scopes ?? []).map((scope) => WORDS[phone.language].scopes[scope]).filter(Boolean);
  byId("scopes").hidden = !scopes.length;
  byId("fact-scopes").textContent = scopes.join(word("comma"));
  byId("fact-from").textContent = plain(browser?.ip) || word("unknown");
  renderButtons([["deny", "deny"], ["allow", "confirm"]]);
  for (const choice of byId("choices").children) choice.ariaDisabled = String(phone.doing !== null);
}

function renderButtons(acts) {
  for (const [button, act] of acts) {
    byId(button).textContent = word(phone.doing === act ? DOING[act] : act);
    byId(button).ariaDisabled = String(phone.doing !== null);
  }
}

function renderDigits() {
  byId("digits-text").textContent = word("digitsText", { origin: plain(phone.login.browser?.origin) || site() });
  renderButtons([["digits-deny", "deny"]]);
}

function renderSignIns() {
  byId("signins-none").hidden = phone.signIns.length > 0;
  byId("signins-list").replaceChildren(...phone.signIns.map(signInItem));
  byId("end-all").hidden = !phone.signIns.length;
  renderButtons([["end-all", "end-all"]]);
}

function signInItem(one) {
  const used = dateTime(one.used_at * 1000);
  const lines = [
    one.apps.map(plain).join(word("comma")),
    ...(one.offline ? [] : [`${browserName(one)} · ${plain(one.ip)}`]),
    word("lastUsed", { time: used }),
  ];
  const item = document.createElement("li");
  item.append(...lines.map((text) => createText("p", text)));
  if (one.offline) {
    item.append(createText("p", word("offlineAccess"), "mark"), createText("p", word("offlineAccessText"), "hint"));
  }
  item.append(endButton(one));
  return item;
}

function endButton({ sid, apps }) {
  const isEnding = phone.doing === "end" && phone.sid === sid;
  const button = createText("button", word(isEnding ? "ending" : "end"), "even-button");
  button.type = "button";
  button.ariaDisabled = String(phone.doing !== null);
  button.ariaLabel = word("endOf", { apps: apps.map(plain).join(word("comma")) });
  button.addEventListener("click", () => {
    if (phone.doing) return;
    phone.sid = sid;
    perform("end");
  });
  return button;
}

function createText(tag, text, className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

function renderOutcome() {
  const { kind, answer } = phone.outcome;
  const { sign, tone, again } = OUTCOMES[kind];
  byId("outcome-sign").className = `sign ${tone ?? ""}`;
  byId("outcome-use").setAttribute("href", `#sign-${sign}`);
  byId("outcome-title").textContent = word(`${kind}Title`);
  byId("outcome-text").textContent = outcomeText();
  byId("outcome-detail").hidden = !answer.error_description;
  byId("outcome-words").textContent = plain(`${answer.error}: ${answer.error_description}`);
  byId("again").hidden = !again;
  byId("report").hidden = kind !== "confirmed";
  renderButtons([["report", "report"]]);
  byId("another").className = again || kind === "denied" ? "even-button" : "main-button";
  const link = httpURL(answer.register_url);
  byId("register").hidden = !link;
  if (link) byId("register").href = link;
  byId("again").className = link ? "even-button" : "main-button";
}

const RENDER = { home: renderHome, confirm: renderConfirm, digits: renderDigits, signins: renderSignIns, outcome: renderOutcome };

function outcomeText() {
  return word(`${phone.outcome.kind}Text`, { site: site(), name: phone.name });
}

function site() {
  const app = phone.login?.app;
  return plain(app?.name) || plain(app?.id) || word("unknown");
}

function browserName(browser) {
  const { program, system, user_agent: full } = browser ?? {};
  if (program && system) return word("browserOn", { program, system });
  return program || system || plain(full).slice(0, 80) || word("unknown");
}

// `text` if it is an HTTP URL. A register link must never be a "javascript:" URL.
function httpURL(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// Update clocks and countdowns once a second.
function tick() {
  byId("strip-clock").textContent = formatTime(Date.now());
  if (phone.view === "confirm") tickConfirm();
  if (phone.view === "digits") tickLeft("digits-left", "digitsOver");
  if (phone.view === "outcome") tickAgain();
}

function tickConfirm() {
  const { at, browser } = phone.login;
  const elapsed = Math.floor((Date.now() - at) / 1000);
  const since = Math.max(0, Math.floor(Number(browser?.since) || 0));
  byId("fact-since").textContent = `${timeAgo(since + elapsed)} · ${formatTime(at - since * 1000, { second: "2-digit" })}`;
  tickLeft("left", "expired");
}

// Show in `element` the time that is left of the login.
function tickLeft(element, outcome) {
  const { endsAt } = phone.login;
  const left = Math.ceil((endsAt - Date.now()) / 1000);
  byId(element).textContent = word("left", { time: duration(Math.max(0, left)) });
  if (left < 0 && !phone.doing) conclude(outcome, "confirm");
}

function tickAgain() {
  const left = secondsToWait();
  const { again } = OUTCOMES[phone.outcome.kind];
  const label = phone.doing ? DOING[phone.doing] : left > 0 ? "againIn" : again;
  if (again) byId("again").textContent = word(label, { time: duration(left) });
  byId("again").ariaDisabled = String(left > 0 || phone.doing !== null);
}

// Seconds until "again" is enabled, from `retry_after`.
function secondsToWait() {
  const { answer, at } = phone.outcome;
  const wait = Number(answer.retry_after) || 0;
  return Math.max(0, Math.ceil(wait - (Date.now() - at) / 1000));
}

// Acts

function fieldsOf(act) {
  if (act === "scan") return { scene: phone.scene };
  if (act === "end") return { sid: phone.sid };
  if (act === "register") return { invitation: INVITATION.exec(phone.scene)[1] };
  if (act === "signins" || act === "end-all") return {};
  const { login_id } = phone.login;
  return act === "confirm" && phone.chosen ? { login_id, match: phone.chosen } : { login_id };
}

async function send(act) {
  try {
    const response = await fetch(`api/${act}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...fieldsOf(act), name: phone.name }),
      signal: AbortSignal.timeout(ACT_TIMEOUT_MS),
    });
    return await response.json();
  } catch {
    return { error: "offline" };
  }
}

async function perform(act) {
  if (phone.doing) return;
  phone.doing = act;
  byId("status").textContent = word(DOING[act]);
  render();
  const answer = await send(act);
  phone.doing = null;
  if (answer.error) conclude(outcomeOf(act, answer.error), act, answer);
  else AFTER[act](answer);
}

const AFTER = {
  scan: openConfirm,
  confirm: (answer) => (answer.match ? openDigits(answer) : conclude("confirmed", "confirm", answer)),
  deny: (answer) => conclude("denied", "deny", answer),
  report: (answer) => conclude(answer.ended ? "reported" : "reportedOnly", "report", answer),
  register: (answer) => conclude("registered", "register", answer),
  signins: openSignIns,
  end: () => perform("signins"),
  "end-all": () => perform("signins"),
};

function openSignIns({ signins }) {
  phone.signIns = signins;
  byId("status").textContent = "";
  show("signins");
}

function openOwnSignIns() {
  clearInputError();
  if (!NAME.test(phone.name)) return showInputError(word("noName"), byId("other"));
  save("name", phone.name);
  perform("signins");
}

function outcomeOf(act, error) {
  if (error === "invalid_grant" && act === "register") return "invitationOver";
  if (error === "invalid_request" && act === "scan") return "unreadable";
  if (error === "access_denied" && act === "confirm" && phone.chosen) return "mismatch";
  if (!LOGIN_ACTS.includes(act) && LOGIN_ERRORS.includes(error)) return "failed";
  return OUTCOME_OF[error] ?? "failed";
}

function openConfirm(login) {
  phone.login = { ...login, at: Date.now(), endsAt: endOf(login) };
  phone.chosen = null;
  byId("status").textContent = "";
  byId("fact-full").open = false;
  const choices = login.match?.choices ?? [];
  byId("choices").replaceChildren(...choices.map(choiceButton));
  byId("match").hidden = !choices.length;
  byId("allow").hidden = choices.length > 0;
  const buttons = [byId("deny"), byId("allow"), ...byId("choices").children];
  ignoreDoubleTap(buttons);
  show("confirm");
}

function ignoreDoubleTap(buttons) {
  for (const button of buttons) button.disabled = true;
  setTimeout(() => { for (const button of buttons) button.disabled = false; }, DOUBLE_TAP_MS);
}

function endOf({ expires_in }) {
  return Date.now() + Number(expires_in) * 1000;
}

function choiceButton(number) {
  const button = document.createElement("button");
  button.className = "even-button";
  button.type = "button";
  button.textContent = plain(number);
  button.addEventListener("click", () => choose(number));
  return button;
}

function choose(number) {
  if (phone.doing) return;
  phone.chosen = number;
  perform("confirm");
}

// The digits that the person types in the browser.
function openDigits(answer) {
  phone.login.endsAt = endOf(answer);
  byId("status").textContent = "";
  byId("digits-shown").textContent = plain(answer.match);
  show("digits");
  watchDigits();
}

// Ask whether the browser has sent the digits. A repeated confirm changes nothing.
async function watchDigits() {
  const { login } = phone;
  const isShown = () => phone.view === "digits" && phone.login === login && !phone.doing;
  while (isShown()) {
    await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS));
    if (!isShown()) return;
    const answer = await send("confirm");
    if (!isShown() || answer.match) continue;
    const kind = answer.error ? DIGITS_OUTCOME_OF[answer.error] : "confirmed";
    if (kind) conclude(kind, "confirm", answer);
  }
}

function conclude(kind, act, answer = {}) {
  phone.outcome = { kind, act, answer, at: Date.now() };
  byId("outcome-detail").open = false;
  ignoreDoubleTap([byId("report")]); // it is where the numbers of a match were
  show("outcome");
  byId("status").textContent = outcomeText();
}

function showInputError(message, field) {
  byId("home-trouble").textContent = message;
  field?.setAttribute("aria-invalid", "true");
  field?.focus();
}

function clearInputError() {
  byId("home-trouble").textContent = "";
  for (const field of [byId("other"), byId("scene")]) field.removeAttribute("aria-invalid");
}

function scan() {
  clearInputError();
  phone.scene ||= byId("scene").value.trim();
  if (!NAME.test(phone.name)) return showInputError(word("noName"), byId("other"));
  if (!phone.scene) return showInputError(word("noCode"), byId("scene"));
  save("name", phone.name);
  perform(INVITATION.test(phone.scene) ? "register" : "scan");
}

function selectPerson() {
  clearInputError();
  const picked = document.querySelector("[name=person]:checked");
  phone.name = picked.value || byId("other").value.trim().normalize("NFC");
  render();
}

function scanAnother() {
  phone.scene = byId("scene").value = "";
  phone.login = phone.outcome = null;
  byId("status").textContent = "";
  clearInputError();
  query.delete("scene"); // a reload must not scan the old code again
  history.replaceState(null, "", query.toString() ? `?${query}` : location.pathname);
  show("home");
}

function switchLanguage() {
  phone.language = phone.language === "zh" ? "en" : "zh";
  save("language", phone.language);
  query.set("lang", phone.language);
  history.replaceState(null, "", `?${query}`);
  clearInputError();
  render();
}

// Start

function start() {
  const people = [...document.querySelectorAll("[name=person]")];
  const known = people.find((person) => person.value === phone.name);
  (known ?? people.at(-1)).checked = true;
  if (!known) byId("other").value = phone.name;
  for (const person of people) person.addEventListener("change", selectPerson);
  byId("other").addEventListener("input", selectPerson);
  byId("scene").addEventListener("input", clearInputError);
  byId("home").addEventListener("submit", (event) => { event.preventDefault(); scan(); });
  byId("other-code").addEventListener("click", scanAnother);
  byId("allow").addEventListener("click", () => perform("confirm"));
  byId("deny").addEventListener("click", () => perform("deny"));
  byId("digits-deny").addEventListener("click", () => perform("deny"));
  byId("digits-another").addEventListener("click", scanAnother);
  byId("open-signins").addEventListener("click", openOwnSignIns);
  byId("end-all").addEventListener("click", () => perform("end-all"));
  byId("back").addEventListener("click", () => show("home"));
  byId("report").addEventListener("click", () => perform("report"));
  byId("again").addEventListener("click", () => secondsToWait() || perform(phone.outcome.act));
  byId("another").addEventListener("click", scanAnother);
  byId("language").addEventListener("click", switchLanguage);
  setInterval(tick, 1000);
  render();
}

start();
