// A fake of WeChat's `wx` for one phone, over real HTTP and WebSocket connections.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const { WebSocket } = require("ws");

class PretendPhone {
  constructor(openid, { language = "en" } = {}) {
    this.openid = openid;
    this.isOnline = true;
    this.losesNextAnswer = false;
    this.scanned = null; // the result of wx.scanCode
    this.chosen = null; // the path of the result of wx.chooseMedia
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
        noted("uploadFile", (asked) => this._upload(asked)),
        noted("downloadFile", (asked) => this._download(asked)),
        noted("chooseMedia", ({ success }) => success({ tempFiles: [{ tempFilePath: this.chosen }] })),
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

  _upload({ url, filePath, name, formData = {}, header, timeout, success, fail }) {
    const { type, body } = formOf(name, filePath, formData);
    const asked = { url, method: "POST", header: { ...header, "Content-Type": type }, data: body, timeout };
    const refuse = (why) => fail({ errMsg: `uploadFile:fail ${why}` });
    if (!this.isOnline) return setTimeout(refuse, 0, "");
    return exchange(asked).then(
      ({ statusCode, content }) => success({ statusCode, data: content.toString() }),
      (error) => refuse(error.message),
    );
  }

  _download({ url, header, timeout, success, fail }) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "download-"));
    const tempFilePath = path.join(folder, "file");
    return exchange({ url, header, timeout }).then(({ statusCode, content }) => {
      fs.writeFileSync(tempFilePath, content);
      success({ statusCode, tempFilePath });
    }, (error) => fail({ errMsg: `downloadFile:fail ${error.message}` }));
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

// The body of wx.uploadFile in WeChat's developer tools: the fields, then the file.
function formOf(name, filePath, formData) {
  const boundary = `WABoundary+${Math.random().toString(16).slice(2)}`;
  const head = (disposition) => `--${boundary}\r\nContent-Disposition: form-data; ${disposition}\r\n`;
  const fields = Object.entries(formData).map(([key, value]) => `${head(`name="${key}"`)}\r\n${value}\r\n`);
  const file = `${head(`name="${name}"; filename="${path.basename(filePath)}"`)}Content-Type: image/png\r\n\r\n`;
  const parts = [...fields, file, fs.readFileSync(filePath), `\r\n--${boundary}--`];
  return {
    type: `multipart/form-data; boundary=${boundary}`,
    body: Buffer.concat(parts.map((one) => Buffer.from(one))),
  };
}

// An HTTP request as in wx.request. The data is parsed if it is JSON, else it is text.
async function call({ data = null, ...asked }) {
  const body = data === null || typeof data === "string" ? data : JSON.stringify(data);
  const { statusCode, header, content } = await exchange({ ...asked, data: body });
  return { statusCode, header, data: parsed(content.toString()) };
}

// data: text or bytes.
function exchange({ url, method = "GET", header = {}, data: body = null, timeout = 60_000 }) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers: header, timeout }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => {
        const content = Buffer.concat(parts);
        resolve({ statusCode: response.statusCode, header: response.headers, content });
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
