// Scans a website's code and confirms or denies its login. Lists and ends the person's sign-ins.
//
//     const { configure } = require("./scan-login/index");
//
//     const phone = configure({ broker: "https://login.example", app: "default" });
//     const login = await phone.scan(scene);  // show login.app and login.browser to the person
//     await phone.confirm(login.login_id);    // or deny
//
// Each act opens a session if there is none, repeats the request if there is no answer, and
// rejects with a ScanLoginError. It is safe to repeat a request: the broker gives the same
// phone the same answer (docs/protocol.md).

const { readBrowser } = require("./browsers");
const { ScanLoginError } = require("./errors");
const { howScanned, scanWithCamera } = require("./how");
const { overHttp, request } = require("./http");
const { invitationIn, sceneInQuery, sceneInScan } = require("./scene");
const { Session } = require("./session");

const ATTEMPTS = 3;
const RETRY_DELAY_MS = 400;

class ScanLogin {
  // broker: its URL. A slash at the end is removed.
  // proof: a js_code to use instead of the one of wx.login, such as "pretend:alice".
  // wire: the transport of acts, HTTP by default; `overSocket` of ./socket for Socket.IO.
  constructor({ broker, app = "default", proof = null, wire = overHttp }) {
    this.broker = broker.replace(/\/+$/, "");
    this._session = new Session({ broker: this.broker, app, proof });
    this._wire = wire(this.broker);
  }

  // Scan a code. The broker notifies the browser that shows it. Resolves with
  // {login_id, state, expires_in, app: {id, name}, browser: {ip, user_agent, since, origin?, known?}, match?}.
  // match: {kind: "number", choices: ["12", "47", "83"]} or {kind: "code"}.
  // how: WeChat's launch scene, from `howScanned` of ./how. The broker gives it to its policy.
  scan(scene, how) {
    return this._act("scan", { scene, can: ["match"], how });
  }

  // Sign the browser in as the person with this phone. match: the number that the person chose.
  // For a match by code it resolves with {login_id, state: "scanned", match, expires_in}: the
  // digits that the person types in the browser.
  confirm(login_id, match) {
    return this._act("confirm", match ? { login_id, match } : { login_id });
  }

  // End the login. The browser is not signed in.
  deny(login_id) {
    return this._act("deny", { login_id });
  }

  // Use an invitation: from then on this phone belongs to the invited user. Resolves with
  // {subject, name}. `invitationIn` of ./scene finds an invitation in a scene.
  register(invitation) {
    return this._request("POST", "/phone/register", { invitation });
  }

  // "That was not me": end the sign-ins of a login that this person confirmed, and inform the site.
  // Resolves with {ended}, which is 0 if the site itself has to sign the browser out.
  report(login_id) {
    return this._request("POST", "/phone/report", { login_id });
  }

  // The person's sign-ins in all apps, the oldest first. Resolves with a list of
  // {sid, apps: [name], ip, user_agent, began_at, used_at, offline}. The times are Unix times.
  // offline: the browser has signed out, but apps still have refresh tokens.
  async signIns() {
    return (await this._request("GET", "/phone/signins")).signins;
  }

  // End a sign-in. Its apps are informed. Resolves with {ended}.
  endSignIn(sid) {
    return this._request("DELETE", `/phone/signins/${encodeURIComponent(sid)}`);
  }

  // End all sign-ins of the person. Resolves with {ended}.
  endSignIns() {
    return this._request("DELETE", "/phone/signins");
  }

  // The phone's session `{id, skey}`, opened if there is none. stale: a session that the broker
  // no longer knows; then the result is another one.
  session(stale) {
    return stale ? this._session.after(stale) : this._session.current();
  }

  // End the phone's session, at the broker and on the phone. The next act opens another one.
  async signOut() {
    const session = this._session.stored;
    if (!session) return;
    const end = () => request("DELETE", `${this.broker}/phone/session`, { session });
    await repeat(end).catch((failure) => {
      if (failure.error !== "invalid_session") throw failure; // it has ended already
    });
    this._session.forget(session);
  }

  close() {
    this._wire.close();
  }

  _act(act, payload) {
    return this._inSession((session) => this._wire.send(act, payload, session));
  }

  // A request that has no event on Socket.IO.
  _request(method, path, payload) {
    return this._inSession((session) => request(method, this.broker + path, { payload, session }));
  }

  _inSession(send) {
    return repeat(() => this._withSession(send));
  }

  // If the broker does not know the session, open a new one and send again, once.
  async _withSession(send) {
    const session = await this._session.current();
    try {
      return await send(session);
    } catch (failure) {
      if (failure.error !== "invalid_session") throw failure;
    }
    return send(await this._session.after(session));
  }
}

let instance = null;

// Set the broker and the app of the mini program, once, in app.js. Takes the options of ScanLogin
// and returns the instance that the component <scan-login-confirm> uses.
function configure(options) {
  instance = new ScanLogin(options);
  return instance;
}

function configured() {
  if (!instance) throw new Error("scan-login: call configure({ broker, app }) in app.js");
  return instance;
}

// Send a request again if there is no answer.
async function repeat(send) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await send();
    } catch (failure) {
      if (failure.error !== "unreachable" || attempt === ATTEMPTS) throw failure;
    }
    await sleep(attempt * RETRY_DELAY_MS);
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}

module.exports = {
  ScanLogin,
  ScanLoginError,
  configure,
  configured,
  howScanned,
  invitationIn,
  readBrowser,
  sceneInQuery,
  sceneInScan,
  scanWithCamera,
};
