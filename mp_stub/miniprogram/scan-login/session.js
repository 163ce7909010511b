// The phone's session at the broker, `{id, skey}`, in the storage of the phone.

const { unreachable } = require("./errors");
const { request } = require("./http");

class Session {
  constructor({ broker, app, proof }) {
    this._broker = broker;
    this._app = app;
    this._proof = proof;
    this._key = ["scan-login", broker, app, proof || ""].join(" ");
    this._stored = wx.getStorageSync(this._key) || null;
    this._opening = null;
  }

  // The stored session, or a new one.
  async current() {
    return this._stored || this._open();
  }

  // The stored session, or null.
  get stored() {
    return this._stored;
  }

  // A session other than `stale`.
  async after(stale) {
    if (this._stored === stale) this._stored = null;
    return this.current();
  }

  // Remove a session from the phone, unless another one has replaced it.
  forget(session) {
    if (this._stored !== session) return;
    this._stored = null;
    wx.removeStorage({ key: this._key, fail: () => {} });
  }

  // Concurrent acts share the new session.
  _open() {
    if (!this._opening) {
      this._opening = this._logIn().finally(() => { this._opening = null; });
    }
    return this._opening;
  }

  async _logIn() {
    const js_code = this._proof || (await jsCode());
    const payload = { app: this._app, js_code };
    const { id, skey } = await request("POST", `${this._broker}/phone/session`, { payload })
      .catch((failure) => { throw this._explained(failure); });
    this._stored = { id, skey };
    wx.setStorage({ key: this._key, data: this._stored, fail: () => {} }); // storage is full: the session stays in memory
    return this._stored;
  }

  _explained(failure) {
    if (failure.error === "invalid_session" && this._proof) {
      failure.message += "; for a broker with WeChat, proof must be null";
    }
    return failure;
  }
}

// A new one-time js_code from WeChat.
function jsCode() {
  return new Promise((resolve, reject) => {
    wx.login({
      success: ({ code }) => resolve(code),
      fail: ({ errMsg }) => reject(unreachable(errMsg)),
    });
  });
}

module.exports = { Session };
