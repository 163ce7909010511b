// The phone's screen: who scans, what is asked, what came of it.
//
//   home ──scan──▶ confirm ──confirm, deny──▶ outcome ──another──▶ home
//                     └──────── any failure ────▶┘  └─again──▶ the same act once more
//
// It decides nothing: each act goes to this page's own server, which is the phone.
// What came from outside is only ever set as text.

import { WORDS } from "./words.js";

const PATIENCE_MS = 15_000; // the server gives the broker 10 s
const DOUBLE_TAP_MS = 400; // a second tap meant for "scan" must not fall on "confirm"

// What each outcome shows: its sign, the sign's tone, and which act "again" repeats.
const OUTCOMES = {
  confirmed: { sign: "tick", tone: "good" },
  denied: { sign: "cross" },
  expired: { sign: "clock" },
  taken: { sign: "alert", tone: "bad" },
  unknown: { sign: "question" },
  unreadable: { sign: "question" },
  unregistered: { sign: "person", again: "againRegistered" },
  over: { sign: "clock" },
  limited: { sign: "clock", again: "again" },
  unreachable: { sign: "cut", tone: "bad", again: "again" },
  offline: { sign: "cut", tone: "bad", again: "again" },
  failed: { sign: "alert", tone: "bad", again: "again" },
};

// The wire's error words, and where each leads.  Any other word leads to "failed".
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

const DOING = { scan: "scanning", confirm: "confirming", deny: "denying" };
const NAME = /^[\p{L}\p{M}\p{Nd}._-]{1,32}$/u;
const byId = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);

const phone = {
  language: firstLanguage(),
  name: recall("name") ?? "alice",
  scene: asked.get("scene")?.trim() ?? "",
  view: "home",
  doing: null, // the act under way
  login: null, // what the scan answered, and `at`, when
  outcome: null, // {kind, act, answer, at}
};

// Words

function firstLanguage() {
  const wishes = [asked.get("lang"), recall("language"), ...navigator.languages];
  const known = wishes.map((wish) => wish?.slice(0, 2).toLowerCase()).find((wish) => wish in WORDS);
  return known ?? "en";
}

function word(key, values = {}) {
  return WORDS[phone.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// Names come from outside: neither control characters nor direction overrides may pass.
function plain(text) {
  return String(text ?? "").replace(/[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, " ").trim();
}

function ago(seconds) {
  const format = new Intl.RelativeTimeFormat(phone.language, { numeric: "auto" });
  if (seconds < 60) return format.format(-seconds, "second");
  if (seconds < 3600) return format.format(-Math.floor(seconds / 60), "minute");
  return format.format(-Math.floor(seconds / 3600), "hour");
}

function clock(at, precision = {}) {
  const digits = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...precision };
  return new Intl.DateTimeFormat(phone.language, digits).format(at);
}

function lasting(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

// A browser may forbid storage; then nothing is remembered.
function recall(key) {
  try { return localStorage.getItem(`phone-${key}`); } catch { return null; }
}

function remember(key, value) {
  try { localStorage.setItem(`phone-${key}`, value); } catch { /* not remembered */ }
}

// Views

function show(view) {
  phone.view = view;
  render();
  scrollTo(0, 0); // the page scrolls on a narrow screen, the frame's inside on a wide one
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
  for (const view of ["home", "confirm", "outcome"]) byId(view).hidden = view !== phone.view;
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
  byId("scan").textContent = phone.doing ? word(DOING[phone.doing]) : label;
  byId("scan").ariaDisabled = String(phone.doing !== null);
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
  byId("fact-from").textContent = plain(browser?.ip) || word("unknown");
  for (const [button, act] of [["deny", "deny"], ["allow", "confirm"]]) {
    byId(button).textContent = word(phone.doing === act ? DOING[act] : act);
    byId(button).ariaDisabled = String(phone.doing !== null);
  }
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
  byId("another").className = again || kind === "denied" ? "even-button" : "main-button";
  const link = webLink(answer.register_url);
  byId("register").hidden = !link;
  if (link) byId("register").href = link;
  byId("again").className = link ? "even-button" : "main-button";
}

const RENDER = { home: renderHome, confirm: renderConfirm, outcome: renderOutcome };

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

// A register link is followed only if it leads to the web: never "javascript:".
function webLink(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// What changes by itself, once a second.
function tick() {
  byId("strip-clock").textContent = clock(Date.now());
  if (phone.view === "confirm") tickConfirm();
  if (phone.view === "outcome") tickAgain();
}

function tickConfirm() {
  const { at, browser, expires_in: lifetime } = phone.login;
  const gone = Math.floor((Date.now() - at) / 1000);
  const since = Math.max(0, Math.floor(Number(browser?.since) || 0));
  byId("fact-since").textContent = `${ago(since + gone)} · ${clock(at - since * 1000, { second: "2-digit" })}`;
  const left = Math.ceil(Number(lifetime) - gone);
  byId("left").textContent = word("left", { time: lasting(Math.max(0, left)) });
  if (left < 0 && !phone.doing) conclude("expired", "confirm");
}

function tickAgain() {
  const left = secondsToWait();
  const { again } = OUTCOMES[phone.outcome.kind];
  const label = phone.doing ? DOING[phone.doing] : left > 0 ? "againIn" : again;
  if (again) byId("again").textContent = word(label, { time: lasting(left) });
  byId("again").ariaDisabled = String(left > 0 || phone.doing !== null);
}

// Seconds until "again" may be pressed, where the broker asked for patience.
function secondsToWait() {
  const { answer, at } = phone.outcome;
  const wait = Number(answer.retry_after) || 0;
  return Math.max(0, Math.ceil(wait - (Date.now() - at) / 1000));
}

// Acts

async function ask(act) {
  const fields = act === "scan" ? { scene: phone.scene } : { login_id: phone.login.login_id };
  try {
    const response = await fetch(`api/${act}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...fields, name: phone.name }),
      signal: AbortSignal.timeout(PATIENCE_MS),
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
  const answer = await ask(act);
  phone.doing = null;
  if (answer.error) conclude(outcomeOf(act, answer.error), act, answer);
  else if (act === "scan") openConfirm(answer);
  else conclude(act === "confirm" ? "confirmed" : "denied", act, answer);
}

function outcomeOf(act, error) {
  if (error === "invalid_request" && act === "scan") return "unreadable";
  return OUTCOME_OF[error] ?? "failed";
}

function openConfirm(login) {
  phone.login = { ...login, at: Date.now() };
  byId("status").textContent = "";
  byId("fact-full").open = false;
  byId("deny").disabled = byId("allow").disabled = true;
  setTimeout(() => { byId("deny").disabled = byId("allow").disabled = false; }, DOUBLE_TAP_MS);
  show("confirm");
}

function conclude(kind, act, answer = {}) {
  phone.outcome = { kind, act, answer, at: Date.now() };
  byId("outcome-detail").open = false;
  show("outcome");
  byId("status").textContent = outcomeText();
}

function refuse(message, field) {
  byId("home-trouble").textContent = message;
  field?.setAttribute("aria-invalid", "true");
  field?.focus();
}

function clearTrouble() {
  byId("home-trouble").textContent = "";
  for (const field of [byId("other"), byId("scene")]) field.removeAttribute("aria-invalid");
}

function scan() {
  clearTrouble();
  phone.scene ||= byId("scene").value.trim();
  if (!NAME.test(phone.name)) return refuse(word("noName"), byId("other"));
  if (!phone.scene) return refuse(word("noCode"), byId("scene"));
  remember("name", phone.name);
  perform("scan");
}

function pickPerson() {
  clearTrouble();
  const picked = document.querySelector("[name=person]:checked");
  phone.name = picked.value || byId("other").value.trim().normalize("NFC");
  render();
}

function scanAnother() {
  phone.scene = byId("scene").value = "";
  phone.login = phone.outcome = null;
  byId("status").textContent = "";
  clearTrouble();
  asked.delete("scene"); // a reload must not scan the old code
  history.replaceState(null, "", asked.toString() ? `?${asked}` : location.pathname);
  show("home");
}

function switchLanguage() {
  phone.language = phone.language === "zh" ? "en" : "zh";
  remember("language", phone.language);
  asked.set("lang", phone.language);
  history.replaceState(null, "", `?${asked}`);
  clearTrouble();
  render();
}

// Start

function start() {
  const people = [...document.querySelectorAll("[name=person]")];
  const known = people.find((person) => person.value === phone.name);
  (known ?? people.at(-1)).checked = true;
  if (!known) byId("other").value = phone.name;
  for (const person of people) person.addEventListener("change", pickPerson);
  byId("other").addEventListener("input", pickPerson);
  byId("scene").addEventListener("input", clearTrouble);
  byId("home").addEventListener("submit", (event) => { event.preventDefault(); scan(); });
  byId("other-code").addEventListener("click", scanAnother);
  byId("allow").addEventListener("click", () => perform("confirm"));
  byId("deny").addEventListener("click", () => perform("deny"));
  byId("again").addEventListener("click", () => secondsToWait() || perform(phone.outcome.act));
  byId("another").addEventListener("click", scanAnother);
  byId("language").addEventListener("click", switchLanguage);
  setInterval(tick, 1000);
  render();
}

start();
