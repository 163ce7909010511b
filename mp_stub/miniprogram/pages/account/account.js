// The person's picture: chosen on the phone, uploaded to the broker, shown by its signed URL.

const files = require("../../scan-login/files");
const { say, sayAll } = require("../../words");

const PROBLEMS = { too_large: "pictureTooLarge", unsupported_media_type: "pictureRefused" };

Page({
  data: { words: {}, picture: "", problem: "", doing: "" },

  onLoad() {
    wx.setNavigationBarTitle({ title: say("picture") });
    this.setData({ words: sayAll("picture", "pictureText", "choosePicture") });
  },

  choose() {
    if (this.data.doing) return;
    wx.chooseMedia({
      count: 1,
      mediaType: ["image"],
      success: ({ tempFiles }) => this.upload(tempFiles[0].tempFilePath),
      fail: () => {}, // the person has chosen none
    });
  },

  async upload(filePath) {
    this.setData({ doing: say("uploading"), problem: "" });
    try {
      const { url } = await files.upload(filePath, { purpose: "avatar" });
      this.setData({ picture: url });
    } catch (error) {
      console.warn(`scan-login: ${error.error}: ${error.message}`);
      this.setData({ problem: say(PROBLEMS[error.error] || "pictureFailed") });
    }
    this.setData({ doing: "" });
  },
});
