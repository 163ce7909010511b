// Finds the scene in a code. The result is "" if there is none.

// The scene in the query of a page. For WeChat's codes it is still percent-encoded.
function sceneInQuery(query) {
  return decode(query.scene || "");
}

// The scene in the result of wx.scanCode: in the path of a mini program code, or in the link
// of a QR code.
function sceneInScan({ path, result }) {
  const match = /[?&]scene=([^&#]*)/.exec(path || result || "");
  return match ? decode(match[1]) : "";
}

// The invitation in a scene, or "" if it is the scene of a login.
function invitationIn(scene) {
  return scene.startsWith("i.") ? scene.slice(2) : "";
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    return ""; // not percent-encoded, so not a scene
  }
}

module.exports = { invitationIn, sceneInQuery, sceneInScan };
