// The scene inside a code, or "" where there is none.

// From the query that a page is opened with: WeChat's codes carry it encoded once more.
function sceneInQuery(query) {
  return decoded(query.scene || "");
}

// From what wx.scanCode saw: the path of this mini program's own code, or the link in an
// ordinary one.
function sceneInScan({ path, result }) {
  const found = /[?&]scene=([^&#]*)/.exec(path || result || "");
  return found ? decoded(found[1]) : "";
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    return ""; // a stray % is in no scene
  }
}

module.exports = { sceneInQuery, sceneInScan };
