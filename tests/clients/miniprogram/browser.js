// A browser that begins a login and polls for its token (RFC 8628).
"use strict";

const { call } = require("./pretend-phone");

const CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
  + " Chrome/126.0.0.0 Safari/537.36";
const GRANT = "urn:ietf:params:oauth:grant-type:device_code";

class Browser {
  static async at(broker, userAgent = CHROME, app = "default") {
    const browser = new Browser();
    browser.broker = broker;
    browser.app = app;
    browser.begun = await browser.post("/oauth/device_authorization", {}, userAgent);
    return browser;
  }

  get scene() {
    return this.begun.user_code;
  }

  // The answer of the token endpoint: a token or an error.
  async ask(more = {}) {
    const fields = { grant_type: GRANT, device_code: this.begun.device_code, ...more };
    return this.post("/oauth/token", fields);
  }

  async post(path, fields, userAgent = CHROME) {
    const data = new URLSearchParams({ client_id: this.app, ...fields }).toString();
    const header = { "Content-Type": "application/x-www-form-urlencoded", "User-Agent": userAgent };
    return (await call({ url: this.broker + path, method: "POST", header, data })).data;
  }
}

module.exports = { Browser };
