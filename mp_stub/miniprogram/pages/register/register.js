// The site's register page: in a web-view if WeChat's console allows it, else as a link to copy.
//
// A web-view opens https pages of the business domains in the console only. Mini programs
// of private persons have no web-view.

const config = require("../../config");
const { say, sayAll } = require("../../words");

Page({
  data: { words: {}, url: "", isOpen: false },

  onLoad(query) {
    const url = decodeURIComponent(query.url);
    wx.setNavigationBarTitle({ title: say("registerTitle") });
    this.setData({
      url,
      isOpen: config.webViewHosts.some((host) => url.startsWith(`https://${host}/`)),
      words: sayAll("registerTitle", "registerText", "copy"),
    });
  },

  // WeChat refuses this if the privacy guide in the console does not mention the clipboard.
  // The link can also be selected and copied by hand.
  copy() {
    wx.setClipboardData({ data: this.data.url });
  },
});
