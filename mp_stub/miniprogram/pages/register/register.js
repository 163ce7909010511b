// The site's own register page: in a web-view where the console allows it, else as a link to copy.
//
// A web-view opens only https pages of hosts that the console lists as business domains, and
// not at all in a mini program of a private person.

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

  // Without a word on the clipboard in the console's privacy guide, WeChat refuses: the link
  // can be selected and copied by hand as well.
  copy() {
    wx.setClipboardData({ data: this.data.url });
  },
});
