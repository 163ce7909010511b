// The start page: scan a code and open its page, as WeChat does.

const { sceneInScan } = require("../../scan-login/scene");
const { say, sayAll } = require("../../words");

Page({
  data: { words: {} },

  onLoad() {
    wx.setNavigationBarTitle({ title: say("title") });
    this.setData({ words: sayAll("homeTitle", "homeText", "scanCode") });
  },

  scanCode() {
    // A saved picture of a code is often the code of another person's screen.
    wx.scanCode({ onlyFromCamera: true, success: (seen) => this.open(sceneInScan(seen)) });
  },

  open(scene) {
    if (scene) wx.navigateTo({ url: `/pages/index/wsLogin?scene=${encodeURIComponent(scene)}` });
    else wx.showToast({ title: say("notACode"), icon: "none" });
  },
});
