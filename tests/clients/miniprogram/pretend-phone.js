// A fake of WeChat's `wx` for one phone, over real HTTP and WebSocket connections.
"use strict";

const http = require("node:http");
const { WebSocket } = require("ws");

class PretendPhone {
  constructor(openid, { language = "en" } = {}) {
    this.openid = openid;
    this.isOnline = true;
    this.losesNextAnswer = false;
    this.scanned = null; // the result of wx.scanCode
    this.launchScene = 1001; // opened from the list of mini programs
    this.sockets = [];
    this.happened = []; // the calls of `wx`, each as [name, argument]
    this.wx = this._wx(language);
  }

  calls(name) {
    return this.happened.filter(([call]) => call === name).map(([, asked]) => asked);
  }

  _wx(language) {
    const kept = new Map();
    const noted = (name, act = () => {}) => [name, (asked) => {
      this.happened.push([name, asked]);
      return act(asked);
    }];
    const silent = ["exitMiniProgram", "navigateTo", "setClipboardData",
      "setNavigationBarTitle", "showToast"];
    return {
      ...Object.fromEntries(silent.map((name) => noted(name))),
      ...Object.fromEntries([
        noted("login", (asked) => this._login(asked)),
        noted("request", (asked) => this._request(asked)),
        noted("scanCode", ({ success }) => success(this.scanned)),
        noted("connectSocket", ({ url }) => this._connect(url)),
      ]),
      getAppBaseInfo: () => ({ language }),
      getEnterOptionsSync: () => ({ scene: this.launchScene }),
      getStorageSync: (key) => (kept.has(key) ? JSON.parse(kept.get(key)) : ""),
      removeStorage: ({ key }) => kept.delete(key),
      setStorage: ({ key, data }) => kept.set(key, JSON.stringify(data)),
    };
  }

  _login({ success, fail }) {
    if (this.isOnline) setTimeout(success, 0, { code: `pretend:${this.openid}` });
    else setTimeout(fail, 0, { errMsg: "login:fail" });
  }

  _connect(url) {
    const socket = new WebSocket(url);
    this.sockets.push(socket);
    return taskOf(socket);
  }

  _request({ success, fail, ...asked }) {
    const refuse = (why) => fail({ errMsg: `request:fail ${why}` });
    if (!this.isOnline) return setTimeout(refuse, 0, "");
    return call(asked).then((answer) => {
      const isLost = this.losesNextAnswer;
      this.losesNextAnswer = false;
      if (isLost) refuse("interrupted");
      else success(answer);
    }, (error) => refuse(error.message));
  }
}

// A SocketTask, which wx.connectSocket returns.
function taskOf(socket) {
  return {
    onOpen: (hear) => socket.on("open", () => hear({})),
    onMessage: (hear) => socket.on("message", (data) => hear({ data: data.toString() })),
    onClose: (hear) => socket.on("close", (code) => hear({ code, reason: "" })),
    onError: (hear) => socket.on("error", (error) => hear({ errMsg: error.message })),
    send: ({ data }) => socket.send(data),
    close: () => socket.close(),
  };
}

// An HTTP request as in wx.request. The data is parsed if it is JSON, else it is text.
function call({ url, method = "GET", header = {}, data = null, timeout = 5000 }) {
  const body = data === null || typeof data === "string" ? data : JSON.stringify(data);
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers: header, timeout }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => {
        const text = Buffer.concat(parts).toString();
        resolve({ statusCode: response.statusCode, header: response.headers, data: parsed(text) });
      });
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", reject);
    request.end(body);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

module.exports = { PretendPhone, call };
