// The page that a code opens: what is asked, and what came of it.
//
//   loading ──scan──▶ asking ──confirm, deny──▶ outcome ──again──▶ the same act once more
//      └──────────────── any failure ────────────▶┘
//
// `act` is the act under way or the last one, `login` what the scan answered.

const config = require("../../config");
const { readBrowser } = require("../../scan-login/browsers");
const { ScanLogin } = require("../../scan-login/index");
const { sceneInQuery } = require("../../scan-login/scene");
const { say, sayAll } = require("../../words");

const DOUBLE_TAP_MS = 400; // a second tap meant for "try again" must not fall on "confirm"

// What each outcome shows: one of WeChat's icons, and what "again" says where it may help.
const OUTCOMES = {
  confirmed: { icon: "success" },
  denied: { icon: "cancel" },
  expired: { icon: "waiting" },
  taken: { icon: "warn" },
  unknown: { icon: "info" },
  unregistered: { icon: "info", again: "againRegistered" },
  blocked: { icon: "warn" },
  over: { icon: "waiting" },
  limited: { icon: "waiting", again: "again" },
  busy: { icon: "waiting", again: "again" },
  offline: { icon: "warn", again: "again" },
  failed: { icon: "warn", again: "again" },
};

// The error words, and where each leads.  Any other leads to "failed".
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
    wx.setNavigationBarTitle({ title: say("title") });
    this.setData({ words: sayAll("warning", "warningWhy", "register", "another", "done") });
    if (this.scene) this.perform("scan");
    else this.conclude("unknown");
  },

  onShow() {
    this.ticking = setInterval(() => this.tick(), 1000);
  },

  onHide() {
    clearInterval(this.ticking);
  },

  onUnload() {
    clearInterval(this.ticking);
    this.phone.close();
  },

  // Acts

  async perform(act) {
    if (this.data.doing) return;
    this.act = act;
    this.setData({ doing: say(DOING[act]) });
    let answer;
    try {
      answer = await this.ask(act);
    } catch (failure) {
      this.fail(failure);
      return;
    }
    if (act === "scan") this.showAsking(answer);
    else this.conclude(DONE[act]);
  },

  ask(act) {
    if (act === "scan") return this.phone.scan(this.scene);
    return this.phone[act](this.login.login_id);
  },

  fail(failure) {
    console.warn(`scan-login: ${failure.error}: ${failure.message}`);
    this.conclude(OUTCOME_OF[failure.error] || "failed", failure);
  },

  confirm() {
    if (this.settled()) this.perform("confirm");
  },

  deny() {
    if (this.settled()) this.perform("deny");
  },

  settled() {
    return Date.now() - this.login.at >= DOUBLE_TAP_MS;
  },

  again() {
    if (!this.secondsToWait()) this.perform(this.act);
  },

  register() {
    const url = encodeURIComponent(this.failure.register_url);
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
      confirm: say("confirm"),
      deny: say("deny"),
    });
    this.tick();
  },

  conclude(kind, failure = {}) {
    this.failure = Object.assign({ at: Date.now() }, failure);
    this.outcome = kind;
    const site = this.login ? this.login.app.name : "";
    this.setData({
      view: "outcome",
      doing: "",
      kind,
      icon: OUTCOMES[kind].icon,
      title: say(`${kind}Title`),
      text: say(`${kind}Text`, { site }),
      canRegister: kind === "unregistered" && Boolean(failure.register_url),
    });
    this.tick();
  },

  // What changes by itself, once a second.
  tick() {
    if (this.data.view === "asking") this.tickAsking();
    if (this.data.view === "outcome") this.tickAgain();
  },

  tickAsking() {
    const gone = Math.floor((Date.now() - this.login.at) / 1000);
    const left = this.login.expires_in - gone;
    this.setData({ facts: facts(this.login, gone), left: say("left", { time: lasting(left) }) });
    if (left <= 0 && !this.data.doing) this.conclude("expired");
  },

  tickAgain() {
    const { again } = OUTCOMES[this.outcome];
    const wait = this.secondsToWait();
    this.setData({
      waits: wait > 0,
      again: again ? say(wait ? "againIn" : again, { time: lasting(wait) }) : "",
    });
  },

  // Seconds until "again" may be tapped, where the broker asked for patience.
  secondsToWait() {
    const gone = (Date.now() - this.failure.at) / 1000;
    return Math.max(0, Math.ceil((this.failure.retry_after || 0) - gone));
  },
});

// What the person must see before confirming; `gone` seconds have passed since the scan.
function facts({ app, browser, at }, gone) {
  const began = new Date(at - browser.since * 1000);
  return [
    { label: say("site"), value: app.name },
    { label: say("browser"), value: browserName(browser.user_agent) },
    { label: say("from"), value: browser.ip },
    { label: say("since"), value: `${ago(browser.since + gone)} · ${clock(began)}` },
  ];
}

function browserName(userAgent) {
  const { program, system } = readBrowser(userAgent);
  if (program && system) return say("browserOn", { program, system });
  return program || system || userAgent.slice(0, 80) || say("unknown");
}

function ago(seconds) {
  if (seconds < 5) return say("justNow");
  if (seconds < 60) return say("secondsAgo", { count: seconds });
  return say("minutesAgo", { count: Math.floor(seconds / 60) });
}

function clock(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
}

function lasting(seconds) {
  return `${Math.floor(seconds / 60)}:${twoDigits(seconds % 60)}`;
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}
