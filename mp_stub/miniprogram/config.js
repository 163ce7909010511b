// Where the broker is.  docs/miniprogram.md says what to change before the mini program goes live.

module.exports = {
  broker: "http://127.0.0.1:8000",
  app: "default",

  // Shown to the broker instead of wx.login's js_code, for its pretend provider.
  // null for WeChat.
  proof: "pretend:alice",

  // Hosts of register pages that a web-view may open: those that the console lists as
  // business domains.  The link of any other is shown, to be copied.
  webViewHosts: [],
};
