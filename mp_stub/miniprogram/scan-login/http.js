// The broker over HTTP, by wx.request.

const { ScanLoginError, unreachable } = require("./errors");

const PATIENCE_MS = 6000;

// Resolves with the broker's answer; rejects with a ScanLoginError.
function post(broker, path, payload, header) {
  return new Promise((resolve, reject) => {
    wx.request({
      url: broker + path,
      method: "POST",
      data: payload,
      header: Object.assign({ "Content-Type": "application/json" }, header),
      timeout: PATIENCE_MS,
      success: ({ statusCode, data }) => {
        if (data && data.error) reject(new ScanLoginError(data));
        else if (statusCode === 200 && data && typeof data === "object") resolve(data);
        // A proxy on the way, or the page of a network that wants its own login first.
        else reject(unreachable(`HTTP ${statusCode}, and not from the broker`));
      },
      fail: ({ errMsg }) => reject(unreachable(errMsg)),
    });
  });
}

// How acts travel when nothing else is asked for.
function overHttp(broker) {
  return {
    send: (act, payload, { id, skey }) =>
      post(broker, `/phone/${act}`, payload, { Authorization: `Bearer ${id}.${skey}` }),
    close: () => {},
  };
}

module.exports = { overHttp, post };
