// Calls the broker over HTTP with wx.request.

const { ScanLoginError, unreachable } = require("./errors");

const ANSWER_TIMEOUT_MS = 6000;

// Resolves with the broker's answer. Rejects with a ScanLoginError.
function post(broker, path, payload, header) {
  return new Promise((resolve, reject) => {
    wx.request({
      url: broker + path,
      method: "POST",
      data: payload,
      header: Object.assign({ "Content-Type": "application/json" }, header),
      timeout: ANSWER_TIMEOUT_MS,
      success: ({ statusCode, data }) => {
        if (data && data.error) reject(new ScanLoginError(data));
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
    send: (act, payload, { id, skey }) =>
      post(broker, `/phone/${act}`, payload, { Authorization: `Bearer ${id}.${skey}` }),
    close: () => {},
  };
}

module.exports = { overHttp, post };
