// The acts of a login, with the same durable changes as the broker.

import { generateKeyPairSync } from "node:crypto";
import jwt from "jsonwebtoken";
import { hash, matches, random } from "./secrets.js";
import { Refused } from "./errors.js";

const LIFETIME = 900;
const TOKEN_LIFETIME = 600;

export class LoginService {
  // notify(room, event, payload): send an event to the browser, at any server.
  constructor({ store, notify, codeUrl }) {
    this.store = store;
    this.notify = notify;
    this.codeUrl = codeUrl;
    // A KeyObject, because jsonwebtoken parses a string for each token.
    this.key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  }

  async openSession({ js_code }) {
    const id = random(16);
    const skey = random(32);
    await this.store.putSession(id, { skey_hash: hash(skey), openid: js_code });
    return { id, skey, expires_in: LIFETIME };
  }

  async begin(browser) {
    const [id, scene, secret] = [random(16), random(24), random(32)];
    const began_at = now();
    await this.store.add({
      id,
      scene,
      secret_hash: hash(secret),
      app: "default",
      browser,
      began_at,
      expires_at: began_at + LIFETIME,
      state: "pending",
      phone: null,
      subject: null,
      confirmed_at: null,
      redeemed_at: null,
    });
    const code = { code_url: this.codeUrl, expires_in: LIFETIME, interval: 5 };
    return { login_id: id, scene, secret, ...code };
  }

  async scan({ scene }, phone) {
    const found = await this.store.byScene(scene);
    check(found.login.state === "pending", 409, "already_scanned");
    const { login } = await this.store.swap(found, { state: "scanned", phone });
    this.notify(login.id, "login-scanned", { login_id: login.id });
    const browser = { ip: login.browser[0], user_agent: login.browser[1], since: 0 };
    return { login_id: login.id, state: login.state, expires_in: LIFETIME, browser };
  }

  async confirm({ login_id }, phone) {
    const found = await this.store.get(login_id);
    check(found.login.state === "scanned", 409, "invalid_state");
    check(found.login.phone === phone, 403, "access_denied");
    const confirmed = { state: "confirmed", subject: phone, confirmed_at: now() };
    await this.store.swap(found, confirmed);
    this.notify(login_id, "login-confirmed", { login_id });
    return { login_id, state: "confirmed" };
  }

  async redeem({ login_id, secret }) {
    const found = await this.store.get(login_id);
    check(matches(found.login.secret_hash, hash(secret)), 400, "invalid_grant");
    check(found.login.state === "confirmed", 400, "authorization_pending");
    await this.store.swap(found, { state: "redeemed", redeemed_at: now() });
    const { subject } = found.login;
    const access_token = this.token(found.login);
    return { access_token, token_type: "Bearer", expires_in: TOKEN_LIFETIME, subject };
  }

  token(login) {
    const iat = Math.floor(now());
    const claims = {
      iss: "http://127.0.0.1",
      sub: login.subject,
      aud: login.app,
      client_id: login.app,
      iat,
      exp: iat + TOKEN_LIFETIME,
      jti: login.id,
      auth_time: Math.floor(login.confirmed_at),
      amr: ["scan"],
      idp: "pretend",
    };
    return jwt.sign(claims, this.key, { algorithm: "ES256", header: { typ: "at+jwt", kid: "1" } });
  }

  // The openid of the session in `Bearer <id>.<skey>`.
  async phone(authorization = "") {
    const [id, skey = ""] = authorization.slice("Bearer ".length).split(".");
    const session = await this.store.session(id);
    check(matches(session.skey_hash, hash(skey)), 401, "invalid_session");
    return session.openid;
  }
}

function check(condition, status, error) {
  if (!condition) throw new Refused(status, error);
}

function now() {
  return Date.now() / 1000;
}
