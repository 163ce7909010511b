// Calls the broker over HTTP with wx.request.

const { ScanLoginError, unreachable } = require("./errors");

const ANSWER_TIMEOUT_MS = 6000;

// Resolves with the broker's answer. Rejects with a ScanLoginError. session: of the phone, if the
// request needs one.  header: further headers, for a request to your own server.
function request(method, url, { payload, session, header } = {}) {
  const authorization = session ? { Authorization: `Bearer ${session.id}.${session.skey}` } : {};
  return new Promise((resolve, reject) => {
    wx.request({
      url,
      method,
      data: payload,
      header: Object.assign({ "Content-Type": "application/json" }, authorization, header),
      timeout: ANSWER_TIMEOUT_MS,
      success: ({ statusCode, data }) => {
        if (data && data.error) reject(new ScanLoginError(data));
        else if (statusCode === 204) resolve(null);
        else if (statusCode === 200 && data && typeof data === "object") resolve(data);
        // The answer of a proxy, or the login page of a network.
        else reject(unreachable(`HTTP ${statusCode}, not an answer of a broker`));
      },
      fail: ({ errMsg }) => reject(unreachable(errMsg)),
    });
  });
}

// The default transport of acts.
function overHttp(broker) {
  return {
    send: (act, payload, session) => request("POST", `${broker}/phone/${act}`, { payload, session }),
    close: () => {},
  };
}

module.exports = { overHttp, request };
