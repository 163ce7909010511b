// Compiles `import` to `require`, as WeChat's developer tools do.
"use strict";

const babel = require("@babel/core");

const COMMONJS = {
  configFile: false,
  babelrc: false,
  compact: true,
  plugins: ["@babel/plugin-transform-modules-commonjs"],
};

module.exports = { process: (source) => ({ code: babel.transformSync(source, COMMONJS).code }) };
