// The component <scan-login-confirm scene="{{scene}}"/>: it shows the login of a code and its outcome.
//
// `configure` of ../index sets the broker and the app. The scene may be percent-encoded, as WeChat
// passes it to a page. The event `register` has the `url` where an unknown person can register,
// and the event `outcome` has the outcome of an act, such as `confirmed`, and the word of its error.
//
//   loading ──scan──▶ asking ──confirm, deny──▶ outcome ──again──▶ repeat the act
//                        └──confirm──▶ digits (match by code) ──▶ outcome
//      └──────────────── any error ──────────────▶┘
//
// `act` is the current or the last act, `login` the answer to the scan.

const { howScanned, scanWithCamera } = require("../how");
const { configured } = require("../index");
const { invitationIn, sceneInQuery } = require("../scene");
const { browserName, duration, formatTime, timeAgo } = require("./formats");
const { OUTCOMES, outcomeOf, secondsToWait } = require("./outcomes");
const { say, sayAll } = require("./words");

const DOUBLE_TAP_MS = 400; // the second tap of a double tap on "try again" must not hit "confirm"

const WATCH_INTERVAL_MS = 2000; // between two questions whether the browser has sent the digits

// The outcome of digits after an error word. Other words are in outcomes.js.
const DIGITS_OUTCOME_OF = { access_denied: "digitsWrong", expired_token: "digitsOver", invalid_grant: "digitsOver" };

const DONE = { confirm: "confirmed", deny: "denied" };
const DOING = { scan: "scanning", confirm: "confirming", deny: "denying", report: "reporting", register: "registering" };

Component({
  properties: { scene: { type: String, value: "" } },

  data: { view: "loading", words: {}, facts: [], doing: "" },

  observers: {
    scene(scene) {
      if (scene && scene !== this.opened) this.open(scene);
    },
  },

  lifetimes: {
    attached() {
      this.setData({ words: sayAll("warningWhy", "register", "report", "another", "done") });
      this.startClock();
    },

    ready() {
      if (!this.opened) this.showOutcome("unknown");
    },

    detached() {
      this.stopClock();
      if (this.phone) this.phone.close();
    },
  },

  pageLifetimes: {
    show() {
      this.startClock();
    },

    hide() {
      this.stopClock();
    },
  },

  methods: {
    open(scene) {
      this.opened = scene;
      this.phone = configured();
      this.scene = sceneInQuery({ scene });
      this.how = howScanned(this.scene);
      Object.assign(this, { login: null, chosen: undefined });
      this.showView("loading", {});
      this.invitation = invitationIn(this.scene);
      if (this.invitation) this.perform("register");
      else if (this.scene) this.perform("scan");
      else this.showOutcome("unknown");
    },

    startClock() {
      this.stopClock();
      this.tickTimer = setInterval(() => this.tick(), 1000);
    },

    stopClock() {
      clearInterval(this.tickTimer);
    },

    // Acts

    async perform(act) {
      if (this.data.doing) return;
      this.act = act;
      this.setData({ doing: say(DOING[act]) });
      const { opened } = this;
      try {
        const answer = await this.send(act);
        if (opened === this.opened) this.showAnswer(act, answer);
      } catch (error) {
        if (opened === this.opened) this.fail(error);
      }
    },

    showAnswer(act, answer) {
      if (act === "scan") this.showAsking(answer);
      else if (act === "register") this.showOutcome("registered");
      else if (act === "report") this.showOutcome(answer.ended ? "reported" : "reportedOnly");
      else if (answer.match) this.showDigits(answer);
      else this.showOutcome(DONE[act]);
    },

    send(act) {
      if (act === "scan") return this.phone.scan(this.scene, this.how);
      if (act === "register") return this.phone.register(this.invitation);
      return this.phone[act](this.login.login_id, this.chosen);
    },

    fail(error) {
      console.warn(`scan-login: ${error.error}: ${error.message}`);
      const isWrongNumber = error.error === "access_denied" && this.chosen;
      this.showOutcome(isWrongNumber ? "mismatch" : outcomeOf(this.act, error.error), error);
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

    // Ask whether the browser has sent the digits. A repeated confirm changes nothing.
    async watch() {
      this.isWatching = true;
      const [kind, error] = await this.phone.confirm(this.login.login_id).then(
        (answer) => [answer.match ? "" : "confirmed", {}],
        (error) => [this.digitsOutcome(error), error],
      );
      this.isWatching = false;
      this.watchAt = Date.now() + Math.max(WATCH_INTERVAL_MS, 1000 * (error.retry_after || 0));
      if (kind && this.data.view === "digits" && !this.data.doing) this.showOutcome(kind, error);
    },

    // "" if the browser can still send them.
    digitsOutcome({ error }) {
      const kind = DIGITS_OUTCOME_OF[error] || outcomeOf("confirm", error);
      if (!OUTCOMES[kind].again) return kind;
      return this.secondsLeft() ? "" : "digitsOver";
    },

    deny() {
      if (this.isPastDoubleTap()) this.perform("deny");
    },

    // "That was not me".
    report() {
      if (this.isPastDoubleTap()) this.perform("report");
    },

    isPastDoubleTap() {
      return Date.now() - this.shownAt >= DOUBLE_TAP_MS;
    },

    again() {
      if (!this.secondsToWait()) this.perform(this.act);
    },

    register() {
      this.triggerEvent("register", { url: this.error.register_url });
    },

    another() {
      scanWithCamera((scene) => {
        if (scene) this.open(scene);
        else wx.showToast({ title: say("notACode"), icon: "none" });
      });
    },

    done() {
      wx.exitMiniProgram();
    },

    // Views

    showView(view, data) {
      this.shownAt = Date.now();
      this.setData(Object.assign({ view, doing: "" }, data));
      this.tick();
    },

    showAsking(login) {
      this.login = Object.assign({ at: Date.now() }, login);
      this.expireIn(login.expires_in);
      const { origin } = login.browser;
      this.showView("asking", {
        title: say("confirmTitle", { site: login.app.name }),
        text: say("confirmText"),
        warning: say(origin ? "warningAt" : "warning", { origin }),
        choices: (login.match && login.match.choices) || [],
        choose: say("choose"),
        confirm: say("confirm"),
        deny: say("deny"),
      });
    },

    // The digits that the person types in the browser.
    showDigits({ match, expires_in }) {
      this.expireIn(expires_in);
      this.watchAt = Date.now() + WATCH_INTERVAL_MS;
      const origin = this.login.browser.origin || this.login.app.name;
      this.showView("digits", { title: say("digitsTitle"), text: say("digitsText", { origin }), digits: match });
    },

    showOutcome(kind, error = {}) {
      this.error = error;
      this.outcome = kind;
      const site = this.login ? this.login.app.name : "";
      this.showView("outcome", {
        kind,
        icon: OUTCOMES[kind].icon,
        title: say(`${kind}Title`),
        text: say(`${kind}Text`, { site }),
        canRegister: kind === "unregistered" && Boolean(error.register_url),
      });
      this.triggerEvent("outcome", { outcome: kind, error: error.error });
    },

    expireIn(seconds) {
      this.endsAt = Date.now() + seconds * 1000;
    },

    secondsLeft() {
      return Math.max(0, Math.ceil((this.endsAt - Date.now()) / 1000));
    },

    // Update the countdowns once a second.
    tick() {
      if (this.data.view === "asking") this.tickAsking();
      if (this.data.view === "digits") this.tickDigits();
      if (this.data.view === "outcome") this.tickAgain();
    },

    tickAsking() {
      const elapsed = Math.floor((Date.now() - this.login.at) / 1000);
      this.setData({ facts: facts(this.login, elapsed), left: this.leftText() });
      if (!this.secondsLeft() && !this.data.doing) this.showOutcome("expired");
    },

    // The last request comes after the end: only the broker knows whether the browser was in time.
    tickDigits() {
      this.setData({ left: this.leftText() });
      const isDue = Date.now() >= this.watchAt || !this.secondsLeft();
      if (isDue && !this.isWatching && !this.data.doing) this.watch();
    },

    leftText() {
      return say("left", { time: duration(this.secondsLeft()) });
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
      return secondsToWait(this.error, Date.now() - this.shownAt);
    },
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
