// The person's sign-ins in all apps, each with a button that ends it.
//
//   loading ──▶ list ──end──▶ list
//      │         └─ error ─▶┐
//      └──────── error ────▶failure ──again──▶ repeat the act

const { browserName, duration, formatMinute } = require("../../scan-login/confirm/formats");
const { OUTCOMES, outcomeOf, secondsToWait } = require("../../scan-login/confirm/outcomes");
const { configured } = require("../../scan-login/index");
const { say, sayAll } = require("../../words");

const DOUBLE_TAP_MS = 400; // the second tap of a double tap must not end another sign-in
const DOING = { list: "loading", end: "ending", endAll: "ending" };

Page({
  data: { view: "loading", words: {}, doing: "", signIns: [], ending: "" },

  onLoad() {
    this.phone = configured();
    wx.setNavigationBarTitle({ title: say("signIns") });
    this.setData({
      words: sayAll("signIns", "noSignIns", "noSignInsText", "end", "endAll", "offlineAccess", "offlineAccessText"),
    });
    this.perform("list");
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

  async perform(act, sid = "") {
    if (this.data.doing) return;
    Object.assign(this, { act, sid });
    this.setData({ doing: say(DOING[act]), ending: sid || act });
    try {
      if (act === "end") await this.phone.endSignIn(sid);
      if (act === "endAll") await this.phone.endSignIns();
      this.showList(await this.phone.signIns());
    } catch (error) {
      this.showFailure(outcomeOf(act, error.error), error);
    }
  },

  end(event) {
    if (this.isPastDoubleTap()) this.perform("end", event.currentTarget.dataset.sid);
  },

  endAll() {
    if (this.isPastDoubleTap()) this.perform("endAll");
  },

  isPastDoubleTap() {
    return Date.now() - this.shownAt >= DOUBLE_TAP_MS;
  },

  again() {
    if (!this.secondsToWait()) this.perform(this.act, this.sid);
  },

  // Views

  showList(signIns) {
    this.shownAt = Date.now();
    this.setData({ view: "list", doing: "", signIns: signIns.map(itemOf) });
  },

  showFailure(kind, error) {
    console.warn(`scan-login: ${error.error}: ${error.message}`);
    this.shownAt = Date.now();
    this.error = error;
    const { icon, again = "" } = OUTCOMES[kind];
    this.setData({
      view: "failure", doing: "", icon, again, title: say(`${kind}Title`), text: say(`${kind}Text`),
    });
    this.tick();
  },

  // Update the countdown once a second.
  tick() {
    if (this.data.view !== "failure" || !this.data.again) return;
    const wait = this.secondsToWait();
    this.setData({
      waits: wait > 0,
      againText: say(wait ? "againIn" : this.data.again, { time: duration(wait) }),
    });
  },

  secondsToWait() {
    return secondsToWait(this.error, Date.now() - this.shownAt);
  },
});

// The fields that the list shows of a sign-in.
function itemOf({ sid, apps, ip, user_agent, used_at, offline }) {
  const names = apps.join(say("comma"));
  return {
    sid,
    apps: names,
    browser: browserName(user_agent),
    ip,
    used: say("lastUsed", { time: formatMinute(new Date(used_at * 1000)) }),
    offline,
    endOf: say("endOf", { apps: names }),
  };
}
