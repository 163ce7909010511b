// The settings of the mini program. docs/miniprogram.md lists the changes for production.

module.exports = {
  broker: "http://127.0.0.1:8000",
  app: "default",

  // A js_code for the broker's provider `pretend`, instead of the one of wx.login.
  // null for WeChat.
  proof: "pretend:alice",

  // The room of the page pages/chat. The app needs the field `rooms`.
  chatRoom: "lobby",

  // The site with the game of the page pages/game, and the app whose backend it is.
  site: "http://127.0.0.1:8080",
  gameApp: "game",

  // Hosts of register pages that a web-view may open: the business domains in WeChat's
  // console. For other hosts the page shows a link to copy.
  webViewHosts: [],
};
