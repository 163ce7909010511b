// Who this phone is to the broker: `{id, skey}`, kept in the phone's storage.

const { unreachable } = require("./errors");
const { post } = require("./http");

class Session {
  constructor({ broker, app, proof }) {
    this._broker = broker;
    this._app = app;
    this._proof = proof;
    this._key = ["scan-login", broker, app, proof || ""].join(" ");
    this._kept = wx.getStorageSync(this._key) || null;
    this._opening = null;
  }

  // The session that is kept, else a fresh one.
  async current() {
    return this._kept || this._open();
  }

  // A session that is not `stale`.
  async after(stale) {
    if (this._kept === stale) this._kept = null;
    return this.current();
  }

  // Acts that want a session at the same time open one together.
  _open() {
    if (!this._opening) {
      this._opening = this._prove().finally(() => { this._opening = null; });
    }
    return this._opening;
  }

  async _prove() {
    const js_code = this._proof || (await jsCode());
    const { id, skey } = await post(this._broker, "/phone/session", { app: this._app, js_code });
    this._kept = { id, skey };
    wx.setStorage({ key: this._key, data: this._kept, fail: () => {} }); // full: it stays in memory
    return this._kept;
  }
}

// WeChat's one-time proof of who holds the phone: asked for anew each time.
function jsCode() {
  return new Promise((resolve, reject) => {
    wx.login({
      success: ({ code }) => resolve(code),
      fail: ({ errMsg }) => reject(unreachable(errMsg)),
    });
  });
}

module.exports = { Session };
