// Scans a code with the camera, and knows how a code was scanned: the `how` of a scan.
//
//     scanWithCamera((scene) => openLoginPage(scene)); // on the start page
//     phone.scan(scene, howScanned(scene));            // on the page that a code opens
//
// The sender of a link chooses the query of the page. So the query never contains `how`.

const { sceneInScan } = require("./scene");

const CAMERA = 1047; // WeChat's launch scene of a code that the camera scanned

let cameraScene = null; // the scene that the camera scanned, until a page asks

// Scan a code and pass on its scene; "" if it has none. A saved picture cannot be scanned: it
// often shows the code of another person's screen.
function scanWithCamera(open) {
  wx.scanCode({
    onlyFromCamera: true,
    success: (seen) => {
      cameraScene = sceneInScan(seen);
      open(cameraScene);
    },
  });
}

// The launch scene for the code with this scene. A scan counts once, because a later code can
// have the same scene.
function howScanned(scene) {
  const isFromCamera = scene === cameraScene;
  cameraScene = null;
  return isFromCamera ? CAMERA : wx.getEnterOptionsSync().scene;
}

module.exports = { howScanned, scanWithCamera };
