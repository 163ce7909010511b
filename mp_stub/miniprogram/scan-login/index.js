// Scans a website's code and confirms or denies its login.
//
//     const { ScanLogin } = require("./scan-login/index");
//
//     const phone = new ScanLogin({ broker: "https://login.example", app: "default" });
//     const seen = await phone.scan(scene);   // app, browser: what the person must see
//     await phone.confirm(seen.login_id);     // or deny
//
// Each act opens a session where there is none, asks again where no answer came, and rejects
// with a ScanLoginError.  Asking again is safe: the broker answers the same phone as it did
// the first time (docs/protocol.md).

const { ScanLoginError } = require("./errors");
const { overHttp } = require("./http");
const { Session } = require("./session");

const TRIES = 3;
const PAUSE_MS = 400;

class ScanLogin {
  // proof: a js_code to show instead of wx.login's, such as "pretend:alice".
  // wire: how acts travel; `overSocket` of ./socket, or HTTP when left out.
  constructor({ broker, app = "default", proof = null, wire = overHttp }) {
    this._session = new Session({ broker, app, proof });
    this._wire = wire(broker);
  }

  // The browser that shows the code is told.  Resolves with
  // {login_id, state, expires_in, app: {id, name}, browser: {ip, user_agent, since}}.
  scan(scene) {
    return this._act("scan", { scene });
  }

  // Lets that browser in as whoever holds this phone.
  confirm(login_id) {
    return this._act("confirm", { login_id });
  }

  // Turns that browser away for good.
  deny(login_id) {
    return this._act("deny", { login_id });
  }

  close() {
    this._wire.close();
  }

  async _act(act, payload) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this._say(act, payload);
      } catch (failure) {
        if (failure.error !== "unreachable" || tries === TRIES) throw failure;
      }
      await pause(tries * PAUSE_MS);
    }
  }

  // A session that the broker has forgotten is opened afresh once.
  async _say(act, payload) {
    const session = await this._session.current();
    try {
      return await this._wire.send(act, payload, session);
    } catch (failure) {
      if (failure.error !== "invalid_session") throw failure;
    }
    return this._wire.send(act, payload, await this._session.after(session));
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}

module.exports = { ScanLogin, ScanLoginError };
