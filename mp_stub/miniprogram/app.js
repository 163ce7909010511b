const config = require("./config");
const { configure } = require("./scan-login/index");

App({
  onLaunch() {
    configure(config);
  },
});
