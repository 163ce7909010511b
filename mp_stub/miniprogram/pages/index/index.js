// The start page: scan a code and open its page, as WeChat does.

const { scanWithCamera } = require("../../scan-login/how");
const { say, sayAll } = require("../../words");

Page({
  data: { words: {} },

  onLoad() {
    wx.setNavigationBarTitle({ title: say("title") });
    this.setData({ words: sayAll("homeTitle", "homeText", "scanCode", "signIns", "picture", "chat", "game") });
  },

  scanCode() {
    scanWithCamera((scene) => this.open(scene));
  },

  signIns() {
    wx.navigateTo({ url: "/pages/signins/signins" });
  },

  account() {
    wx.navigateTo({ url: "/pages/account/account" });
  },

  chat() {
    wx.navigateTo({ url: "/pages/chat/chat" });
  },

  game() {
    wx.navigateTo({ url: "/pages/game/game" });
  },

  open(scene) {
    if (scene) wx.navigateTo({ url: `/pages/index/wsLogin?scene=${encodeURIComponent(scene)}` });
    else wx.showToast({ title: say("notACode"), icon: "none" });
  },
});
