// The page that a code opens: it shows the login, with the component of the library.

const { say } = require("../../words");

Page({
  data: { scene: "" },

  onLoad({ scene = "" }) {
    wx.setNavigationBarTitle({ title: say("title") });
    this.setData({ scene });
  },

  register({ detail }) {
    wx.navigateTo({ url: `/pages/register/register?url=${encodeURIComponent(detail.url)}` });
  },
});
