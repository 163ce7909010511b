// The page that a code opens: it shows the login and its outcome.
//
//   loading ──scan──▶ asking ──confirm, deny──▶ outcome ──again──▶ repeat the act
//                        └──confirm──▶ digits (match by code)
//      └──────────────── any error ──────────────▶┘
//
// `act` is the current or the last act, `login` the answer to the scan.

const config = require("../../config");
const { readBrowser } = require("../../scan-login/browsers");
const { howScanned } = require("../../scan-login/how");
const { ScanLogin } = require("../../scan-login/index");
const { sceneInQuery } = require("../../scan-login/scene");
const { say, sayAll } = require("../../words");

const DOUBLE_TAP_MS = 400; // the second tap of a double tap on "try again" must not hit "confirm"

// The icon of each outcome (one of WeChat's), and the text of the button "again", if there is one.
const OUTCOMES = {
  confirmed: { icon: "success" },
  denied: { icon: "cancel" },
  expired: { icon: "waiting" },
  taken: { icon: "warn" },
  unknown: { icon: "info" },
  unregistered: { icon: "info", again: "againRegistered" },
  blocked: { icon: "warn" },
  mismatch: { icon: "warn" },
  over: { icon: "waiting" },
  limited: { icon: "waiting", again: "again" },
  busy: { icon: "waiting", again: "again" },
  offline: { icon: "warn", again: "again" },
  failed: { icon: "warn", again: "again" },
};

// The outcome of each error word. Other words have the outcome "failed".
const OUTCOME_OF = {
  expired_token: "expired",
  already_scanned: "taken",
  unknown_scene: "unknown",
  invalid_request: "unknown",
  unregistered_user: "unregistered",
  access_denied: "blocked",
  invalid_state: "over",
  invalid_grant: "over",
  rate_limited: "limited",
  temporarily_unavailable: "busy",
  unreachable: "offline",
};

const DONE = { confirm: "confirmed", deny: "denied" };
const DOING = { scan: "scanning", confirm: "confirming", deny: "denying" };

Page({
  data: { view: "loading", words: {}, facts: [], doing: "" },

  onLoad(query) {
    this.phone = new ScanLogin(config);
    this.scene = sceneInQuery(query);
    this.how = howScanned(this.scene);
    wx.setNavigationBarTitle({ title: say("title") });
    this.setData({ words: sayAll("warning", "warningWhy", "register", "another", "done") });
    if (this.scene) this.perform("scan");
    else this.showOutcome("unknown");
  },

  onShow() {
    this.tickTimer = setInterval(() => this.tick(), 1000);
  },

  onHide() {
    clearInterval(this.tickTimer);
  },

  onUnload() {
    clearInterval(this.tickTimer);
    this.phone.close();
  },

  // Acts

  async perform(act) {
    if (this.data.doing) return;
    this.act = act;
    this.setData({ doing: say(DOING[act]) });
    let answer;
    try {
      answer = await this.send(act);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (act === "scan") this.showAsking(answer);
    else if (answer.match) this.showDigits(answer);
    else this.showOutcome(DONE[act]);
  },

  send(act) {
    if (act === "scan") return this.phone.scan(this.scene, this.how);
    return this.phone[act](this.login.login_id, this.chosen);
  },

  fail(error) {
    console.warn(`scan-login: ${error.error}: ${error.message}`);
    const isWrongNumber = error.error === "access_denied" && this.chosen;
    this.showOutcome(isWrongNumber ? "mismatch" : OUTCOME_OF[error.error] || "failed", error);
  },

  confirm() {
    if (this.isPastDoubleTap()) this.perform("confirm");
  },

  // The person chose the number that the browser shows.
  choose(event) {
    if (!this.isPastDoubleTap() || this.data.doing) return;
    this.chosen = event.currentTarget.dataset.number;
    this.perform("confirm");
  },

  deny() {
    if (this.isPastDoubleTap()) this.perform("deny");
  },

  isPastDoubleTap() {
    return Date.now() - this.login.at >= DOUBLE_TAP_MS;
  },

  again() {
    if (!this.secondsToWait()) this.perform(this.act);
  },

  register() {
    const url = encodeURIComponent(this.error.register_url);
    wx.navigateTo({ url: `/pages/register/register?url=${url}` });
  },

  another() {
    wx.reLaunch({ url: "/pages/index/index" });
  },

  done() {
    wx.exitMiniProgram();
  },

  // Views

  showAsking(login) {
    this.login = Object.assign({ at: Date.now() }, login);
    this.setData({
      view: "asking",
      doing: "",
      title: say("confirmTitle", { site: login.app.name }),
      text: say("confirmText"),
      choices: (login.match && login.match.choices) || [],
      choose: say("choose"),
      confirm: say("confirm"),
      deny: say("deny"),
    });
    this.tick();
  },

  // The digits that the person types in the browser.
  showDigits({ match, expires_in }) {
    Object.assign(this.login, { at: Date.now(), expires_in });
    const origin = this.login.browser.origin || this.login.app.name;
    this.setData({
      view: "digits", doing: "", title: say("digitsTitle"), text: say("digitsText", { origin }), digits: match,
    });
    this.tick();
  },

  showOutcome(kind, error = {}) {
    this.error = Object.assign({ at: Date.now() }, error);
    this.outcome = kind;
    const site = this.login ? this.login.app.name : "";
    this.setData({
      view: "outcome",
      doing: "",
      kind,
      icon: OUTCOMES[kind].icon,
      title: say(`${kind}Title`),
      text: say(`${kind}Text`, { site }),
      canRegister: kind === "unregistered" && Boolean(error.register_url),
    });
    this.tick();
  },

  // Update the countdowns once a second.
  tick() {
    if (["asking", "digits"].includes(this.data.view)) this.tickAsking();
    if (this.data.view === "outcome") this.tickAgain();
  },

  tickAsking() {
    const elapsed = Math.floor((Date.now() - this.login.at) / 1000);
    const left = this.login.expires_in - elapsed;
    this.setData({ facts: facts(this.login, elapsed), left: say("left", { time: duration(left) }) });
    if (left <= 0 && !this.data.doing) this.showOutcome("expired");
  },

  tickAgain() {
    const { again } = OUTCOMES[this.outcome];
    const wait = this.secondsToWait();
    this.setData({
      waits: wait > 0,
      again: again ? say(wait ? "againIn" : again, { time: duration(wait) }) : "",
    });
  },

  // Seconds until "again" is enabled, from `retry_after`.
  secondsToWait() {
    const elapsed = (Date.now() - this.error.at) / 1000;
    return Math.max(0, Math.ceil((this.error.retry_after || 0) - elapsed));
  },
});

// The facts that the person must see before confirming, `elapsed` seconds after the scan.
function facts({ app, browser, at }, elapsed) {
  const began = new Date(at - browser.since * 1000);
  const origin = browser.origin ? [{ label: say("address"), value: browser.origin }] : [];
  const known = browser.known === undefined ? "" : say(browser.known ? "known" : "notKnown");
  return [
    { label: say("site"), value: app.name },
    { label: say("scopes"), value: app.scopes.map((scope) => say(`scope_${scope}`)).join(say("comma")) },
    ...origin,
    { label: say("browser"), value: [browserName(browser.user_agent), known].filter(Boolean).join(" · ") },
    { label: say("from"), value: browser.ip },
    { label: say("since"), value: `${timeAgo(browser.since + elapsed)} · ${formatTime(began)}` },
  ];
}

function browserName(userAgent) {
  const { program, system } = readBrowser(userAgent);
  if (program && system) return say("browserOn", { program, system });
  return program || system || userAgent.slice(0, 80) || say("unknown");
}

function timeAgo(seconds) {
  if (seconds < 5) return say("justNow");
  if (seconds < 60) return say("secondsAgo", { count: seconds });
  return say("minutesAgo", { count: Math.floor(seconds / 60) });
}

function formatTime(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
}

function duration(seconds) {
  return `${Math.floor(seconds / 60)}:${twoDigits(seconds % 60)}`;
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}
